// Attention of single tokens over pages on CPUs. `attention.py` says the same in torch, and without this that runs.
//
// Keys lie as [P, K, D, 32] and values as [P, K, 32, D] in pages of 32 tokens, for K heads of width D; H / K query heads
// share each of them. A token's result depends on its own row alone, whatever the batch and the number of threads.
// Sums are float32.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

namespace {

constexpr int PAGE = 32;
constexpr int TOGETHER = 4;  // query heads for which a page is read once

struct bfloat16 {
    uint16_t bits;
};

inline float wide(float x) { return x; }

inline float wide(bfloat16 x) {
    uint32_t bits = uint32_t(x.bits) << 16;
    float result;
    std::memcpy(&result, &bits, 4);
    return result;
}

inline void narrow(float x, float* to) { *to = x; }

inline void narrow(float x, bfloat16* to) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    // To the nearest, ties to even; NaN stays NaN.
    to->bits = std::isnan(x) ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

// e^x for x <= 0, to about 2 units in the last place, in a form that compilers vectorise.
inline float exp_of(float x) {
    x = std::max(x, -87.0f);
    float n = std::nearbyint(x * 1.44269504f);
    float r = std::fma(n, -0.693359375f, x);
    r = std::fma(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = std::fma(p, r, 1.3981999507e-3f);
    p = std::fma(p, r, 8.3334519073e-3f);
    p = std::fma(p, r, 4.1665795894e-2f);
    p = std::fma(p, r, 1.6666665459e-1f);
    p = std::fma(p, r, 5.0000001201e-1f);
    p = std::fma(p, r * r, r + 1.0f);
    int32_t bits = (int32_t(n) + 127) << 23;
    float power;
    std::memcpy(&power, &bits, 4);
    return p * power;
}

struct Row {
    const int32_t* pages;
    int64_t first;  // token that is seen
    int64_t end;    // behind the last one
};

// Scores [G, PAGE] of a page's keys [D, PAGE] for G queries [G, D].
template <typename T, int G>
void score_page(const float* queries, const T* keys, int64_t D, float* scores, int64_t stride) {
    float sums[G][PAGE] = {};
    for (int64_t d = 0; d < D; ++d) {
        for (int t = 0; t < PAGE; ++t) {
            float key = wide(keys[d * PAGE + t]);
            for (int g = 0; g < G; ++g) sums[g][t] += queries[g * D + d] * key;
        }
    }
    for (int g = 0; g < G; ++g) std::memcpy(scores + g * stride, sums[g], sizeof(sums[g]));
}

// Adds a page's values [PAGE, D], weighed, to G sums [G, D]. WIDTH is D where it is known beforehand, or 0.
template <typename T, int G, int WIDTH>
void add_page(const float* weights, int64_t stride, const T* values, int64_t from, int64_t to, int64_t width, float* sums) {
    const int64_t D = WIDTH ? WIDTH : width;
    for (int64_t t = from; t < to; ++t) {
        for (int64_t d = 0; d < D; ++d) {
            float value = wide(values[t * D + d]);
            for (int g = 0; g < G; ++g) sums[g * D + d] += weights[g * stride + t] * value;
        }
    }
}

template <typename T, int G, int WIDTH>
void attend_heads(const T* query, const T* keys, const T* values, int64_t page_size, Row row, int64_t width, float scale,
                  T* out) {
    const int64_t D = WIDTH ? WIDTH : width;
    const int64_t first_page = row.first / PAGE, last_page = (row.end + PAGE - 1) / PAGE;
    const int64_t stride = (last_page - first_page) * PAGE;
    thread_local std::vector<float> room;
    room.resize(G * (stride + 2 * D));
    float* scores = room.data();
    float* queries = scores + G * stride;
    float sums_of[WIDTH ? G * WIDTH : 1] = {};
    float* sums = WIDTH ? sums_of : queries + G * D;
    for (int64_t i = 0; i < G * D; ++i) queries[i] = wide(query[i]) * scale, sums[i] = 0;
    for (int64_t page = first_page; page < last_page; ++page)
        score_page<T, G>(queries, keys + row.pages[page] * page_size, D, scores + (page - first_page) * PAGE, stride);
    const int64_t from = row.first - first_page * PAGE, to = row.end - first_page * PAGE;
    float totals[G];
    for (int g = 0; g < G; ++g) {
        float* of = scores + g * stride;
        float most = -std::numeric_limits<float>::infinity(), total = 0;
        for (int64_t t = from; t < to; ++t) most = std::max(most, of[t]);
        for (int64_t t = from; t < to; ++t) of[t] = exp_of(of[t] - most);
        for (int64_t t = from; t < to; ++t) total += of[t];
        totals[g] = total;
    }
    for (int64_t page = first_page; page < last_page; ++page) {
        const int64_t base = (page - first_page) * PAGE;
        add_page<T, G, WIDTH>(scores + base, stride, values + row.pages[page] * page_size, std::max<int64_t>(from - base, 0),
                              std::min<int64_t>(to - base, PAGE), D, sums);
    }
    for (int g = 0; g < G; ++g)
        for (int64_t d = 0; d < D; ++d) narrow(sums[g * D + d] / totals[g], out + g * D + d);
}

template <typename T, int G>
void attend_width(const T* query, const T* keys, const T* values, int64_t page_size, Row row, int64_t D, float scale,
                  T* out) {
    if (D == 64)
        attend_heads<T, G, 64>(query, keys, values, page_size, row, D, scale, out);
    else if (D == 128)
        attend_heads<T, G, 128>(query, keys, values, page_size, row, D, scale, out);
    else
        attend_heads<T, G, 0>(query, keys, values, page_size, row, D, scale, out);
}

template <typename T>
void attend(const T* query, const T* keys, const T* values, const int32_t* table, const int64_t* firsts,
            const int64_t* ends, const int64_t* places, int64_t R, int64_t most, int64_t H, int64_t K, int64_t D,
            float scale, T* out, int threads) {
    const int64_t shared = H / K, page_size = K * D * PAGE;
#pragma omp parallel for collapse(2) schedule(dynamic, 1) num_threads(threads)
    for (int64_t r = 0; r < R; ++r) {
        for (int64_t k = 0; k < K; ++k) {
            const Row row{table + r * most, firsts[r], ends[r]};
            for (int64_t g = 0; g < shared; g += TOGETHER) {
                const int64_t at = (places[r] * H + k * shared + g) * D, page = k * D * PAGE;
                switch (std::min<int64_t>(TOGETHER, shared - g)) {
                    case 1: attend_width<T, 1>(query + at, keys + page, values + page, page_size, row, D, scale, out + at); break;
                    case 2: attend_width<T, 2>(query + at, keys + page, values + page, page_size, row, D, scale, out + at); break;
                    case 3: attend_width<T, 3>(query + at, keys + page, values + page, page_size, row, D, scale, out + at); break;
                    default: attend_width<T, 4>(query + at, keys + page, values + page, page_size, row, D, scale, out + at);
                }
            }
        }
    }
}

// Files keys and values [N, K, D] of tokens at columns of pages.
template <typename T>
void file(const T* key, const T* value, const int64_t* pages, const int64_t* columns, int64_t N, int64_t K, int64_t D,
          T* keys, T* values, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t n = 0; n < N; ++n) {
        for (int64_t k = 0; k < K; ++k) {
            const int64_t from = (n * K + k) * D, page = (pages[n] * K + k) * D * PAGE;
            for (int64_t d = 0; d < D; ++d) keys[page + d * PAGE + columns[n]] = key[from + d];
            std::memcpy(values + page + columns[n] * D, value + from, D * sizeof(T));
        }
    }
}

}  // namespace

#define FILE_TOKENS(NAME, T)                                                                                            \
    extern "C" void file_##NAME(const void* key, const void* value, const int64_t* pages, const int64_t* columns,       \
                                int64_t N, int64_t K, int64_t D, void* keys, void* values, int threads) {               \
        file(static_cast<const T*>(key), static_cast<const T*>(value), pages, columns, N, K, D, static_cast<T*>(keys),  \
             static_cast<T*>(values), threads);                                                                         \
    }

FILE_TOKENS(float32, float)
FILE_TOKENS(bfloat16, bfloat16)

#define ATTEND(NAME, T)                                                                                                 \
    extern "C" void attend_##NAME(const void* query, const void* keys, const void* values, const int32_t* table,        \
                                  const int64_t* firsts, const int64_t* ends, const int64_t* places, int64_t R,         \
                                  int64_t most, int64_t H, int64_t K, int64_t D, float scale, void* out, int threads) { \
        attend(static_cast<const T*>(query), static_cast<const T*>(keys), static_cast<const T*>(values), table, firsts, \
               ends, places, R, most, H, K, D, scale, static_cast<T*>(out), threads);                                   \
    }

ATTEND(float32, float)
ATTEND(bfloat16, bfloat16)
