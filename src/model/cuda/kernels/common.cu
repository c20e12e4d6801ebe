// What all kernels share. Everything is row-major; u64 where a product of sizes may not fit 32 bits.

typedef unsigned int u32;
typedef unsigned long long u64;

// The rank of a token that is not seen.
#define HIDDEN 0xffffffffu

// Run-time compilation has no headers to take it from.
#define INFINITE __int_as_float(0x7f800000)

__device__ __forceinline__ float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// The sum over a block of at most 1,024 threads, the same on every thread. In an order that the block's size alone
// decides.
__device__ double block_sum(double x) {
  __shared__ double sums[32];
  for (int apart = 16; apart > 0; apart /= 2) x += __shfl_down_sync(0xffffffffu, x, apart);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  double sum = 0.0;
  for (u32 warp = 0; warp < (blockDim.x + 31) / 32; ++warp) sum += sums[warp];
  __syncthreads();
  return sum;
}

__device__ double block_max(double x) {
  __shared__ double maxima[32];
  for (int apart = 16; apart > 0; apart /= 2) x = fmax(x, __shfl_down_sync(0xffffffffu, x, apart));
  if (threadIdx.x % 32 == 0) maxima[threadIdx.x / 32] = x;
  __syncthreads();
  double top = maxima[0];
  for (u32 warp = 1; warp < (blockDim.x + 31) / 32; ++warp) top = fmax(top, maxima[warp]);
  __syncthreads();
  return top;
}
