// Row kernels over FFN keys: [N, F], contiguous, float32 or bfloat16; statistics in float32; one row per loop turn.
//
// A plain C interface, so that it compiles in about a second and needs neither torch's nor Python's headers.
// What each function computes is written readably in rows.py, which tests hold these to.
// Rows are independent: a row's result does not depend on its neighbours nor on the number of threads.

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

struct BFloat16 {
  uint16_t bits;
};

enum Norm { ABS_L1 = 0, RELU = 1, SQUARE = 2, SOFTMAX = 3 };

inline int32_t bits_of(float x) {
  int32_t bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

inline float float_of(int32_t bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline float widen(float x) { return x; }
inline float widen(BFloat16 x) { return float_of(static_cast<int32_t>(static_cast<uint32_t>(x.bits) << 16)); }

inline void narrow(float x, float& out) { out = x; }
inline void narrow(float x, BFloat16& out) {
  // Round to nearest even, as torch does; NaN stays NaN.
  const uint32_t bits = static_cast<uint32_t>(bits_of(x));
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  out.bits = static_cast<uint16_t>(x != x ? 0x7FC0u : rounded);
}

// Cephes' logf, written so that compilers vectorise it. Relative error below 2e-7 for every positive float, subnormals
// included; 0 gives a finite number (about -104), which its weight 0 removes.
inline float log_of(float x) {
  const bool tiny = x < FLT_MIN;
  const int32_t bits = bits_of(tiny ? x * 8388608.0f : x);
  float mantissa = float_of((bits & 0x007FFFFF) | 0x3F800000);
  float exponent = static_cast<float>((bits >> 23) - (tiny ? 150 : 127));
  const bool upper = mantissa > 1.41421356f;
  mantissa = upper ? 0.5f * mantissa : mantissa;
  exponent = upper ? exponent + 1.0f : exponent;
  const float f = mantissa - 1.0f;
  const float z = f * f;
  float y = 7.0376836292e-2f;
  y = y * f - 1.1514610310e-1f;
  y = y * f + 1.1676998740e-1f;
  y = y * f - 1.2420140846e-1f;
  y = y * f + 1.4249322787e-1f;
  y = y * f - 1.6668057665e-1f;
  y = y * f + 2.0000714765e-1f;
  y = y * f - 2.4999993993e-1f;
  y = y * f + 3.3333331174e-1f;
  y = y * f * z - 2.12194440e-4f * exponent - 0.5f * z;
  return f + y + 0.693359375f * exponent;
}

// Cephes' expf for x <= 0; below -87 the result is about 1e-38, which no sum of probabilities notices.
inline float exp_of(float x) {
  const float turns = std::floor(x * 1.44269504f + 0.5f);
  const float r = x - turns * 0.693359375f + turns * 2.12194440e-4f;
  float y = 1.9875691500e-4f;
  y = y * r + 1.3981999507e-3f;
  y = y * r + 8.3334519073e-3f;
  y = y * r + 4.1665795894e-2f;
  y = y * r + 1.6666665459e-1f;
  y = y * r + 5.0000001201e-1f;
  y = y * r * r + r + 1.0f;
  return y * float_of((static_cast<int32_t>(turns) + 127) << 23);
}

// What a float keeps of its bits: all, or all but its sign. As a mask, because compilers do not vectorise a choice that
// is made anew for each key.
inline int32_t magnitude_mask(bool magnitude) { return magnitude ? 0x7FFFFFFF : -1; }

inline float floor_exponent(float x) { return x < -87.0f ? -87.0f : x; }

// Integers in the order of the floats; -0 equals 0, NaN comes last.
inline int32_t ordered(float x) {
  const int32_t bits = bits_of(x + 0.0f);
  const int32_t monotone = bits ^ ((bits >> 31) & 0x7FFFFFFF);
  return x != x ? std::numeric_limits<int32_t>::max() : monotone;
}

// The rank of a key: as narrow as its type allows, since the search below is bound by vector width.
inline int32_t rank_of(float x, const float*) { return ordered(x); }
inline int16_t rank_of(float x, const BFloat16*) { return static_cast<int16_t>(ordered(x) >> 16); }

template <typename R>
int64_t count_up_to(const R* ranks, int64_t width, R limit) {
  constexpr int64_t CHUNK = 16384;  // a count of so many still fits 16 bits
  int64_t total = 0;
  for (int64_t start = 0; start < width; start += CHUNK) {
    const int64_t size = width - start < CHUNK ? width - start : CHUNK;
    R count = 0;
#pragma omp simd reduction(+ : count)
    for (int64_t j = 0; j < size; ++j) count += ranks[start + j] <= limit ? 1 : 0;
    total += count;
  }
  return total;
}

// A rank up to which there are n, or the n-th smallest where ties leave none. By bisection: each turn is one vectorised
// count, whatever n is, and the turns end as soon as the n are parted from the others.
template <typename R>
R limit_of(const R* ranks, int64_t width, int64_t n) {
  R low = ranks[0];
  R high = ranks[0];
#pragma omp simd reduction(min : low) reduction(max : high)
  for (int64_t j = 0; j < width; ++j) {
    low = ranks[j] < low ? ranks[j] : low;
    high = ranks[j] > high ? ranks[j] : high;
  }
  while (low < high) {
    const R middle = static_cast<R>(low + (static_cast<int64_t>(high) - low) / 2);
    const int64_t count = count_up_to(ranks, width, middle);
    if (count == n) return middle;
    if (count > n) {
      high = middle;
    } else {
      low = static_cast<R>(middle + 1);
    }
  }
  return low;
}

// Indices, ascending, of the n smallest ranks; ties at the border go to the lowest index.
template <typename R>
void collect(const R* ranks, int64_t width, int64_t n, R limit, int32_t* indices) {
  const bool least = limit == std::numeric_limits<R>::min();
  int64_t ties = n - (least ? 0 : count_up_to(ranks, width, static_cast<R>(limit - 1)));
  constexpr int64_t BLOCK = 64;
  int64_t taken = 0;
  for (int64_t start = 0; start < width && taken < n; start += BLOCK) {
    const int64_t stop = start + BLOCK < width ? start + BLOCK : width;
    if (count_up_to(ranks + start, stop - start, limit) == 0) continue;
    for (int64_t j = start; j < stop; ++j) {
      if (ranks[j] > limit || (ranks[j] == limit && ties-- <= 0)) continue;
      indices[taken++] = static_cast<int32_t>(j);
    }
  }
}

template <typename T, typename R>
void select_row(const T* row, int64_t width, int64_t n, bool magnitude, bool largest, R* ranks, int32_t* indices) {
  const int32_t mask = magnitude_mask(magnitude);
  const int32_t turned = largest ? std::numeric_limits<int32_t>::min() : 0;
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) ranks[j] = rank_of(float_of((bits_of(widen(row[j])) & mask) ^ turned), row);
  collect(ranks, width, n, limit_of(ranks, width, n), indices);
}

template <typename T>
void select_rows(const T* keys, int64_t rows, int64_t width, int64_t n, bool magnitude, bool largest,
                 int32_t* indices, int threads) {
  using R = decltype(rank_of(0.0f, keys));
#pragma omp parallel num_threads(threads)
  {
    std::vector<R> ranks(static_cast<size_t>(width));
#pragma omp for schedule(static)
    for (int64_t i = 0; i < rows; ++i) {
      select_row(keys + i * width, width, n, magnitude, largest, ranks.data(), indices + i * n);
    }
  }
}

template <typename T>
float mean_of(const T* row, int64_t width, bool absolute) {
  const int32_t mask = magnitude_mask(absolute);
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t j = 0; j < width; ++j) sum += float_of(bits_of(widen(row[j])) & mask);
  return sum / static_cast<float>(width);
}

// A key on its way from where it is to where the edit puts it.
inline float moved(float key, bool negative, float mean, float strength, float scale, bool keep_sign) {
  const float target = keep_sign ? (negative ? -scale : scale) * std::fabs(mean) : scale * mean;
  const float step = target - key;
  return strength < 0.5f ? key + strength * step : target - step * (1.0f - strength);
}

template <typename T>
void replace_rows(const T* keys, const int32_t* indices, const int8_t* signs, const double* strengths, int64_t rows,
                  int64_t width, int64_t n, int64_t rows_per_strength, float scale, bool absolute, bool keep_sign,
                  T* out, float* means, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) {
    const T* const row = keys + i * width;
    T* const edited = out + i * width;
    std::memcpy(edited, row, static_cast<size_t>(width) * sizeof(T));
    const float strength = static_cast<float>(strengths[i / rows_per_strength]);
    means[i] = 0.0f;
    if (strength == 0.0f) continue;
    const float mean = means[i] = mean_of(row, width, absolute);
    for (int64_t m = 0; m < n; ++m) {
      const int32_t j = indices[i * n + m];
      narrow(moved(widen(row[j]), signs[i * n + m] < 0, mean, strength, scale, keep_sign), edited[j]);
    }
  }
}

// Selects and replaces at once, for passes without a gradient; rows of strength 0 cost a copy.
template <typename T>
void boost_rows(const T* keys, const double* strengths, int64_t rows, int64_t width, int64_t n,
                int64_t rows_per_strength, bool magnitude, bool largest, float scale, bool absolute, bool keep_sign,
                T* out, int threads) {
  using R = decltype(rank_of(0.0f, keys));
#pragma omp parallel num_threads(threads)
  {
    std::vector<R> ranks(static_cast<size_t>(width));
    std::vector<int32_t> indices(static_cast<size_t>(n));
#pragma omp for schedule(static)
    for (int64_t i = 0; i < rows; ++i) {
      const T* const row = keys + i * width;
      T* const edited = out + i * width;
      std::memcpy(edited, row, static_cast<size_t>(width) * sizeof(T));
      const float strength = static_cast<float>(strengths[i / rows_per_strength]);
      if (strength == 0.0f) continue;
      select_row(row, width, n, magnitude, largest, ranks.data(), indices.data());
      const float mean = mean_of(row, width, absolute);
      for (const int32_t j : indices) {
        const float key = widen(row[j]);
        narrow(moved(key, key < 0.0f, mean, strength, scale, keep_sign), edited[j]);
      }
    }
  }
}

template <typename T>
void replace_rows_backward(const T* grad, const T* edited, const int32_t* indices, const int8_t* signs,
                           const float* means, const double* strengths, int64_t rows, int64_t width, int64_t n,
                           int64_t rows_per_strength, float scale, bool absolute, bool keep_sign, bool detach_mean,
                           T* out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) {
    const T* const g = grad + i * width;
    T* const result = out + i * width;
    const float strength = static_cast<float>(strengths[i / rows_per_strength]);
    float through_mean = 0.0f;
    if (strength != 0.0f && !detach_mean) {
      const float mean_sign = static_cast<float>((means[i] > 0.0f) - (means[i] < 0.0f));
      for (int64_t m = 0; m < n; ++m) {
        const float sign = keep_sign ? (signs[i * n + m] < 0 ? -mean_sign : mean_sign) : 1.0f;
        through_mean += sign * widen(g[indices[i * n + m]]);
      }
      through_mean *= strength * scale / static_cast<float>(width);
    }
    if (through_mean == 0.0f) {
      std::memcpy(result, g, static_cast<size_t>(width) * sizeof(T));
    } else if (absolute) {
      const T* const row = edited + i * width;
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) {
        const float key = widen(row[j]);
        const float slope = key > 0.0f ? through_mean : (key < 0.0f ? -through_mean : 0.0f);
        narrow(widen(g[j]) + slope, result[j]);
      }
    } else {
#pragma omp simd
      for (int64_t j = 0; j < width; ++j) narrow(widen(g[j]) + through_mean, result[j]);
    }
    if (strength == 0.0f) continue;
    for (int64_t m = 0; m < n; ++m) {
      const int32_t j = indices[i * n + m];
      const float slope = absolute ? through_mean * static_cast<float>(signs[i * n + m]) : through_mean;
      narrow((1.0f - strength) * widen(g[j]) + slope, result[j]);
    }
  }
}

// H = ln Z - (1 / Z) sum u ln u, with u the unnormalised weights relative to the row's peak, so that Z >= 1.
template <int NORM, typename T>
void entropy_row(const T* row, int64_t width, float& entropy, float& total, float& peak) {
  float top = NORM == SOFTMAX ? -std::numeric_limits<float>::infinity() : 0.0f;
#pragma omp simd reduction(max : top)
  for (int64_t j = 0; j < width; ++j) {
    const float x = NORM == ABS_L1 || NORM == SQUARE ? std::fabs(widen(row[j])) : widen(row[j]);
    top = x > top ? x : top;
  }
  float z = 0.0f;
  float s = 0.0f;
  // A row of zeros divides by 1: its weights, total and entropy are 0.
  const float unit = top == 0.0f ? 1.0f : top;
#pragma omp simd reduction(+ : z, s)
  for (int64_t j = 0; j < width; ++j) {
    const float x = widen(row[j]);
    if (NORM == SOFTMAX) {
      const float log_u = floor_exponent(x - top);
      const float u = exp_of(log_u);
      z += u;
      s += u * log_u;
    } else {
      const float r = (NORM == RELU ? (x < 0.0f ? 0.0f : x) : std::fabs(x)) / unit;
      const float u = NORM == SQUARE ? r * r : r;
      z += u;
      s += u * (NORM == SQUARE ? 2.0f : 1.0f) * log_of(r);
    }
  }
  entropy = z == 0.0f ? 0.0f : std::log(z) - s / z;
  total = z;
  peak = NORM == SOFTMAX ? top : unit;
}

// dH/du = -(ln q + H) / Z, carried to the keys by du/dk; added to the gradient that arrives (none counts as 0).
template <int NORM, bool ADD, typename T>
void entropy_row_backward(const T* row, const T* grad, int64_t width, float weight, float entropy, float total,
                          float peak, T* out) {
  const float offset = entropy - std::log(total);
  const float coefficient = NORM == SOFTMAX ? -weight / total : -weight / total / peak;
#pragma omp simd
  for (int64_t j = 0; j < width; ++j) {
    const float x = widen(row[j]);
    float slope;
    if (NORM == SOFTMAX) {
      const float log_u = floor_exponent(x - peak);
      slope = exp_of(log_u) * (log_u + offset);
    } else {
      const float log_r = log_of(std::fabs(x) / peak);
      if (NORM == SQUARE) {
        slope = x == 0.0f ? 0.0f : 2.0f * (x / peak) * (2.0f * log_r + offset);
      } else {
        const float sign = x > 0.0f ? 1.0f : (x < 0.0f && NORM == ABS_L1 ? -1.0f : 0.0f);
        slope = sign * (log_r + offset);
      }
    }
    narrow((ADD ? widen(grad[j]) : 0.0f) + coefficient * slope, out[j]);
  }
}

template <int NORM, typename T>
void entropy_rows(const T* keys, const float* weights, int64_t rows, int64_t width, float* entropy, float* total,
                  float* peak, int threads) {
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) {
    entropy[i] = total[i] = 0.0f;
    peak[i] = 1.0f;
    if (weights[i] != 0.0f) entropy_row<NORM>(keys + i * width, width, entropy[i], total[i], peak[i]);
  }
}

template <int NORM, typename T>
void entropy_rows_backward(const T* keys, const T* grad, const float* weights, const float* entropy,
                           const float* total, const float* peak, int64_t rows, int64_t width, T* out, int threads) {
#pragma omp parallel for schedule(dynamic, 8) num_threads(threads)
  for (int64_t i = 0; i < rows; ++i) {
    const int64_t at = i * width;
    if (weights[i] == 0.0f || total[i] == 0.0f) {
      const size_t size = static_cast<size_t>(width) * sizeof(T);
      if (grad != nullptr) {
        std::memcpy(out + at, grad + at, size);
      } else {
        std::memset(out + at, 0, size);
      }
    } else if (grad != nullptr) {
      entropy_row_backward<NORM, true>(keys + at, grad + at, width, weights[i], entropy[i], total[i], peak[i], out + at);
    } else {
      entropy_row_backward<NORM, false>(keys + at, grad, width, weights[i], entropy[i], total[i], peak[i], out + at);
    }
  }
}

template <typename T>
void entropy_by_norm(int norm, const T* keys, const float* weights, int64_t rows, int64_t width, float* entropy,
                     float* total, float* peak, int threads) {
  switch (norm) {
    case ABS_L1: return entropy_rows<ABS_L1>(keys, weights, rows, width, entropy, total, peak, threads);
    case RELU: return entropy_rows<RELU>(keys, weights, rows, width, entropy, total, peak, threads);
    case SQUARE: return entropy_rows<SQUARE>(keys, weights, rows, width, entropy, total, peak, threads);
    default: return entropy_rows<SOFTMAX>(keys, weights, rows, width, entropy, total, peak, threads);
  }
}

template <typename T>
void entropy_backward_by_norm(int norm, const T* keys, const T* grad, const float* weights, const float* entropy,
                              const float* total, const float* peak, int64_t rows, int64_t width, T* out,
                              int threads) {
  switch (norm) {
    case ABS_L1:
      return entropy_rows_backward<ABS_L1>(keys, grad, weights, entropy, total, peak, rows, width, out, threads);
    case RELU:
      return entropy_rows_backward<RELU>(keys, grad, weights, entropy, total, peak, rows, width, out, threads);
    case SQUARE:
      return entropy_rows_backward<SQUARE>(keys, grad, weights, entropy, total, peak, rows, width, out, threads);
    default:
      return entropy_rows_backward<SOFTMAX>(keys, grad, weights, entropy, total, peak, rows, width, out, threads);
  }
}

}  // namespace

// Each entry point exists once per key type.
#define STEERLINE_EXPORT(SUFFIX, T)                                                                                    \
  extern "C" void select_##SUFFIX(const T* keys, int64_t rows, int64_t width, int64_t n, int magnitude, int largest,   \
                                  int32_t* indices, int threads) {                                                     \
    select_rows(keys, rows, width, n, magnitude != 0, largest != 0, indices, threads);                                 \
  }                                                                                                                    \
  extern "C" void replace_##SUFFIX(const T* keys, const int32_t* indices, const int8_t* signs, const double* strengths,\
                                   int64_t rows, int64_t width, int64_t n, int64_t rows_per_strength, float scale,     \
                                   int absolute, int keep_sign, T* out, float* means, int threads) {                   \
    replace_rows(keys, indices, signs, strengths, rows, width, n, rows_per_strength, scale, absolute != 0,             \
                 keep_sign != 0, out, means, threads);                                                                 \
  }                                                                                                                    \
  extern "C" void boost_##SUFFIX(const T* keys, const double* strengths, int64_t rows, int64_t width, int64_t n,       \
                                 int64_t rows_per_strength, int magnitude, int largest, float scale, int absolute,     \
                                 int keep_sign, T* out, int threads) {                                                 \
    boost_rows(keys, strengths, rows, width, n, rows_per_strength, magnitude != 0, largest != 0, scale, absolute != 0, \
               keep_sign != 0, out, threads);                                                                          \
  }                                                                                                                    \
  extern "C" void replace_backward_##SUFFIX(                                                                           \
      const T* grad, const T* edited, const int32_t* indices, const int8_t* signs, const float* means,                 \
      const double* strengths, int64_t rows, int64_t width, int64_t n, int64_t rows_per_strength, float scale,         \
      int absolute, int keep_sign, int detach_mean, T* out, int threads) {                                             \
    replace_rows_backward(grad, edited, indices, signs, means, strengths, rows, width, n, rows_per_strength, scale,    \
                          absolute != 0, keep_sign != 0, detach_mean != 0, out, threads);                              \
  }                                                                                                                    \
  extern "C" void entropy_##SUFFIX(int norm, const T* keys, const float* weights, int64_t rows, int64_t width,         \
                                   float* entropy, float* total, float* peak, int threads) {                           \
    entropy_by_norm(norm, keys, weights, rows, width, entropy, total, peak, threads);                                  \
  }                                                                                                                    \
  extern "C" void entropy_backward_##SUFFIX(int norm, const T* keys, const T* grad, const float* weights,              \
                                            const float* entropy, const float* total, const float* peak, int64_t rows, \
                                            int64_t width, T* out, int threads) {                                      \
    entropy_backward_by_norm(norm, keys, grad, weights, entropy, total, peak, rows, width, out, threads);              \
  }

STEERLINE_EXPORT(float32, float)
STEERLINE_EXPORT(bfloat16, BFloat16)
