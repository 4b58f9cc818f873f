// Linear maps on CPUs by weights in panels. `linear.py` says what for; torch's `linear` is what tests hold this to.
//
// A weight [N, K] lies as [P, K / U, PANEL, U]: P panels of PANEL outputs, whose weights for U inputs are neighbours (1
// float32, 2 bfloat16). A tile of some tokens and a panel keeps its sums in registers while it reads the panel from one
// end to the other. Each sum adds its products in the order of the inputs, in float32: an output depends on its own
// token and weights alone, bit for bit, whatever the batch and the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

namespace {

constexpr int LANES = 16, VECTORS = 3, PANEL = LANES * VECTORS;
constexpr int TOKENS = 8;  // of a tile: 24 sums fill most of the 32 registers of AVX-512

typedef float Floats __attribute__((vector_size(4 * LANES), may_alias));
typedef uint32_t Words __attribute__((vector_size(4 * LANES), may_alias));

struct bfloat16 {
    uint16_t bits;
};

inline void narrow(float x, float* to) { *to = x; }

inline void narrow(float x, bfloat16* to) {
    uint32_t bits;
    std::memcpy(&bits, &x, 4);
    // To the nearest, ties to even; NaN stays NaN.
    to->bits = x != x ? 0x7fc0 : uint16_t((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

constexpr int depth_of(const float*) { return 1; }
constexpr int depth_of(const bfloat16*) { return 2; }

// Adds U products to each of LANES sums.
inline void add(Floats& sums, const float* x, const float* weights) {
    sums += *x * *reinterpret_cast<const Floats*>(weights);
}

inline void add(Floats& sums, const bfloat16* x, const bfloat16* weights) {
    uint32_t pair;
    std::memcpy(&pair, x, 4);
    const Words both = *reinterpret_cast<const Words*>(weights);
#ifdef __AVX512BF16__
    sums = Floats(_mm512_dpbf16_ps(__m512(sums), __m512bh(_mm512_set1_epi32(int(pair))), __m512bh(__m512i(both))));
#else
    const uint32_t first = pair << 16, second = pair & 0xffff0000u;
    float x0, x1;
    std::memcpy(&x0, &first, 4);
    std::memcpy(&x1, &second, 4);
    sums += x0 * Floats(both << 16);
    sums += x1 * Floats(both & 0xffff0000u);
#endif
}

template <typename T, int M>
void multiply_tile(const T* x, int64_t K, const T* panel, const float* bias, T* out, int64_t stride, int64_t width) {
    constexpr int U = depth_of(static_cast<const T*>(nullptr));
    Floats sums[M][VECTORS];
    for (int m = 0; m < M; ++m)
        for (int v = 0; v < VECTORS; ++v) sums[m][v] = bias ? reinterpret_cast<const Floats*>(bias)[v] : Floats{};
    for (int64_t k = 0; k < K; k += U)
#pragma GCC unroll 8
        for (int m = 0; m < M; ++m)
#pragma GCC unroll 3
            for (int v = 0; v < VECTORS; ++v) add(sums[m][v], x + m * K + k, panel + k * PANEL + v * LANES * U);
    for (int m = 0; m < M; ++m)
        for (int64_t n = 0; n < width; ++n) narrow(sums[m][n / LANES][n % LANES], out + m * stride + n);
}

template <typename T>
void multiply_panel(const T* x, int64_t M, int64_t K, const T* panel, const float* bias, T* out, int64_t stride,
                    int64_t width) {
    for (; M >= TOKENS; M -= TOKENS, x += TOKENS * K, out += TOKENS * stride)
        multiply_tile<T, TOKENS>(x, K, panel, bias, out, stride, width);
    switch (M) {
        case 1: multiply_tile<T, 1>(x, K, panel, bias, out, stride, width); break;
        case 2: multiply_tile<T, 2>(x, K, panel, bias, out, stride, width); break;
        case 3: multiply_tile<T, 3>(x, K, panel, bias, out, stride, width); break;
        case 4: multiply_tile<T, 4>(x, K, panel, bias, out, stride, width); break;
        case 5: multiply_tile<T, 5>(x, K, panel, bias, out, stride, width); break;
        case 6: multiply_tile<T, 6>(x, K, panel, bias, out, stride, width); break;
        case 7: multiply_tile<T, 7>(x, K, panel, bias, out, stride, width); break;
    }
}

template <typename T>
void multiply(const T* x, const T* panels, const float* bias, T* out, int64_t M, int64_t K, int64_t N, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int64_t n = 0; n < N; n += PANEL)
        multiply_panel(x, M, K, panels + n * K, bias ? bias + n : nullptr, out + n, N, std::min<int64_t>(PANEL, N - n));
}

}  // namespace

#define LINEAR(NAME, T)                                                                                              \
    extern "C" void linear_##NAME(const void* x, const void* panels, const float* bias, void* out, int64_t M, int64_t K, \
                                  int64_t N, int threads) {                                                           \
        multiply(static_cast<const T*>(x), static_cast<const T*>(panels), bias, static_cast<T*>(out), M, K, N, threads); \
    }

LINEAR(float32, float)
LINEAR(bfloat16, bfloat16)
