#ifndef PARALLEL_HPP_
#define PARALLEL_HPP_

namespace caffe {

// Below these, starting threads costs more than they save.

// Numbers, each of which takes a few operations.
const int kMinParallelCount = 1 << 14;
// Pixels of the CRF's grid, each of which has tens of neighbours.
const int kMinParallelPixels = 256;

}  // namespace caffe

#endif  // PARALLEL_HPP_
