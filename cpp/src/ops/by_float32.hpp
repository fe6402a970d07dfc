// Products of bfloat16 arrays on float32 copies, for what has no kernels of its own: every bfloat16 number is a
// float32, so that the products are the same. A device says how it copies by a class `Way`, whose copies live as long
// as it does:
//
//   explicit Way(const Context&);
//   const float* widen(int64_t size, const BFloat16* array);                      a copy
//   float* take(int64_t size);                                                    room for a result
//   void narrow(int64_t size, const float* from, BFloat16* to);                   to the nearest, ties to even
//   const Context& context() const;                                               for the ops on copies
//   static const OpTable& ops();                                                  which are these
#pragma once

#include <cstdint>

#include "op_table.hpp"

namespace convec {

template <typename Way>
struct ByFloat32 {
  static void conv2d_forward(const Context& context, const Conv2dProblem& p, const BFloat16* input,
                             const BFloat16* filters, const float* bias, Activation activation, BFloat16* output) {
    Way way(context);
    const float* const x = way.widen(input_size(p), input);
    const float* const w = way.widen(filters_size(p), filters);
    float* const y = way.take(output_size(p));
    Way::ops().conv2d_forward(way.context(), p, x, w, nullptr, bias, activation, y);
    way.narrow(output_size(p), y, output);
  }

  static void conv2d_backward_input(const Context& context, const Conv2dProblem& p, const BFloat16* grad_output,
                                    const BFloat16* filters, BFloat16* grad_input) {
    Way way(context);
    const float* const g = way.widen(output_size(p), grad_output);
    const float* const w = way.widen(filters_size(p), filters);
    float* const dx = way.take(input_size(p));
    Way::ops().conv2d_backward_input(way.context(), p, g, w, dx);
    way.narrow(input_size(p), dx, grad_input);
  }

  static void conv2d_backward_filters(const Context& context, const Conv2dProblem& p, const BFloat16* input,
                                      const BFloat16* grad_output, float* grad_filters, float* grad_bias) {
    Way way(context);
    const float* const x = way.widen(input_size(p), input);
    const float* const g = way.widen(output_size(p), grad_output);
    Way::ops().conv2d_backward_filters(way.context(), p, x, g, grad_filters, grad_bias);
  }

  static void dense_forward(const Context& context, const DenseProblem& p, const BFloat16* input,
                            const BFloat16* weights, const float* bias, Activation activation, BFloat16* output) {
    Way way(context);
    const float* const x = way.widen(p.batch * p.in, input);
    const float* const w = way.widen(p.in * p.units, weights);
    float* const y = way.take(p.batch * p.units);
    Way::ops().dense_forward(way.context(), p, x, w, nullptr, bias, activation, y);
    way.narrow(p.batch * p.units, y, output);
  }

  static void dense_backward_input(const Context& context, const DenseProblem& p, const BFloat16* grad_output,
                                   const BFloat16* weights, BFloat16* grad_input) {
    Way way(context);
    const float* const g = way.widen(p.batch * p.units, grad_output);
    const float* const w = way.widen(p.in * p.units, weights);
    float* const dx = way.take(p.batch * p.in);
    Way::ops().dense_backward_input(way.context(), p, g, w, dx);
    way.narrow(p.batch * p.in, dx, grad_input);
  }

  static void dense_backward_weights(const Context& context, const DenseProblem& p, const BFloat16* input,
                                     const BFloat16* grad_output, float* grad_weights, float* grad_bias) {
    Way way(context);
    const float* const x = way.widen(p.batch * p.in, input);
    const float* const g = way.widen(p.batch * p.units, grad_output);
    Way::ops().dense_backward_weights(way.context(), p, x, g, grad_weights, grad_bias);
  }

 private:
  static int64_t input_size(const Conv2dProblem& p) { return p.batch * p.height * p.width * p.channels; }
  static int64_t output_size(const Conv2dProblem& p) { return p.batch * p.out_height * p.out_width * p.filters; }
  static int64_t filters_size(const Conv2dProblem& p) {
    return p.kernel_height * p.kernel_width * (p.channels / p.groups) * p.filters;
  }
};

}  // namespace convec
