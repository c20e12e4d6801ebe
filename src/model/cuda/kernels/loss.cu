// Cross entropy of classes that are groups of leaves, as kernels/loss.rs on the processor.
//
//   p[j]  = softmax over the leaves j of any class        P[k] = sum of p[j] over the leaves j of class k
//   q[k]  = (1 - s) [k = label] + s / K                   smoothing s over K classes
//   dloss / dz[j] = scale (p[j] - q[k] p[j] / P[k])       k the class of j; 0 for a leaf of no class; scale 1 / B for a mean

#define NO_CLASS 0xffffffffu

// Adds the bias to each row of logits [B, C]. A block a text.
extern "C" __global__ void add_bias(float* __restrict__ logits, const float* __restrict__ bias, u32 leaves) {
  for (u32 j = threadIdx.x; j < leaves; j += blockDim.x) logits[(u64)blockIdx.x * leaves + j] += bias[j];
}

// A block a text. `class_leaves` lists the leaves of each class, class after class; `log_sums` [B, K] is for itself. The loss
// of each text is in nats.
extern "C" __global__ void class_loss(const float* __restrict__ logits, const u32* __restrict__ labels, u32 leaves,
                                      u32 classes, float smoothing, float scale, const u32* __restrict__ class_of_leaf,
                                      const u32* __restrict__ class_offsets, const u32* __restrict__ class_leaves,
                                      double* __restrict__ log_sums, float* __restrict__ dlogits,
                                      double* __restrict__ losses) {
  const u32 text = blockIdx.x, label = labels[text];
  const float* z = logits + (u64)text * leaves;
  double* of_class = log_sums + (u64)text * classes;
  double top = -INFINITE;
  for (u32 k = threadIdx.x; k < classes; k += blockDim.x) {
    const u32 begin = class_offsets[k], end = class_offsets[k + 1];
    double max = -INFINITE, sum = 0.0;
    for (u32 at = begin; at < end; ++at) max = fmax(max, (double)z[class_leaves[at]]);
    for (u32 at = begin; at < end; ++at) sum += exp((double)z[class_leaves[at]] - max);
    of_class[k] = end - begin == 1 ? (double)z[class_leaves[begin]] : max + log(sum);
    top = fmax(top, of_class[k]);
  }
  top = block_max(top);
  double sum = 0.0;
  for (u32 k = threadIdx.x; k < classes; k += blockDim.x) sum += exp(of_class[k] - top);
  const double of_all = top + log(block_sum(sum));

  const double spread = (double)smoothing / classes, hit = 1.0 - (double)smoothing;
  for (u32 j = threadIdx.x; j < leaves; j += blockDim.x) {
    const u32 k = class_of_leaf[j];
    double d = 0.0;
    if (k != NO_CLASS) {
      const double target = (k == label ? hit : 0.0) + spread;
      d = (double)scale * (exp(z[j] - of_all) - target * exp(z[j] - of_class[k]));
    }
    dlogits[(u64)text * leaves + j] = (float)d;
  }
  double loss = 0.0;
  for (u32 k = threadIdx.x; k < classes; k += blockDim.x) {
    const double target = (k == label ? hit : 0.0) + spread;
    if (target > 0.0) loss += target * (of_all - of_class[k]);
  }
  loss = block_sum(loss);
  if (threadIdx.x == 0) losses[text] = loss;
}
