// What a step does not see, drawn on the device from a seed and the position of each number.

// Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators": 32 bits of the mixed counter.
__device__ __forceinline__ u32 drawn(u64 seed, u64 position) {
  u64 z = seed + (position + 1) * 0x9e3779b97f4a7c15ull;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return (u32)((z ^ (z >> 31)) >> 32);
}

// `columns` and `features` get 0 where something is not seen, else the factor that keeps the mean; `ranks` lose the
// tokens that are not seen. Of 2^32 numbers the first `*_dropped` are dropped.
extern "C" __global__ void draw_masks(u64 seed, float* __restrict__ columns, u32 column_count, u32 column_dropped,
                                      float column_factor, float* __restrict__ features, u32 feature_count,
                                      u32 feature_dropped, float feature_factor, u32* __restrict__ ranks, u32 tokens,
                                      u32 token_dropped) {
  const u32 count = column_count + feature_count + tokens;
  for (u32 at = blockIdx.x * blockDim.x + threadIdx.x; at < count; at += gridDim.x * blockDim.x) {
    const u32 draw = drawn(seed, at);
    if (at < column_count) {
      columns[at] = draw < column_dropped ? 0.0f : column_factor;
    } else if (at < column_count + feature_count) {
      features[at - column_count] = draw < feature_dropped ? 0.0f : feature_factor;
    } else if (draw < token_dropped) {
      ranks[at - column_count - feature_count] = HIDDEN;
    }
  }
}
