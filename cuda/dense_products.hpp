// Products of dense layers by matmul.hpp.
#pragma once

#include "matmul.hpp"

namespace convec::cuda {

// One product whose operands are matrices in memory.
template <bool AlongA, bool AlongB, typename Element, typename Result>
struct MatrixProduct {
  struct Operands {
    Matrix<AlongA, Element> a;
    Matrix<AlongB, Element> b;
    MaybePartial<MatrixOutput<Result>> c;
    int rows, columns, depth;
  };

  Matrix<AlongA, Element> a;
  Matrix<AlongB, Element> b;
  MatrixOutput<Result> c;
  PartialSums partial;
  int rows, columns, depth;

  __device__ __forceinline__ Operands operands(int, int slice) const {
    float* part = partial.data == nullptr ? nullptr : partial.data + slice * partial.slice_size;
    return {a, b, {c, part, columns}, rows, columns, depth};
  }
};

// c = activation(a b + bias), where a and b lie along the sum (AlongA, AlongB) or across it.
template <bool AlongA, bool AlongB, typename Element, typename Result>
void multiply_matrices(const Context& context, Scratch& scratch, const Element* a, int64_t a_stride, const Element* b,
                       int64_t b_stride, const float* bias, Activation activation, Result* c, int64_t rows,
                       int64_t columns, int64_t depth) {
  const bool a_in_vectors = aligned_for_vectors(a) && a_stride % vector_numbers<Element> == 0;
  const bool b_in_vectors = aligned_for_vectors(b) && b_stride % vector_numbers<Element> == 0;
  const auto plan = MatmulPlan::of<Element>(context, 1, rows, columns, depth, a_in_vectors && b_in_vectors, true);
  float* parts = plan.slices.count == 1 ? nullptr : scratch.take<float>(plan.partial_floats());
  const MatrixOutput<Result> output{c, columns, bias, activation, aligned_for_vectors(c) && columns % 4 == 0};
  run_matmul<Element>(
      context, plan,
      MatrixProduct<AlongA, AlongB, Element, Result>{{a, a_stride, static_cast<int>(rows), a_in_vectors},
                                                     {b, b_stride, static_cast<int>(columns), b_in_vectors},
                                                     output,
                                                     plan.partial(parts),
                                                     static_cast<int>(rows),
                                                     static_cast<int>(columns),
                                                     static_cast<int>(depth)});
  if (parts != nullptr)
    add_slices(context, plan.partial(parts), plan.slices.count, 1, plan.rows, plan.columns, output, 0);
}

}  // namespace convec::cuda
