// The steps of a network's plan. A node is one op, or a few fused ones, with the parameters it uses.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include <convec/context.hpp>
#include <convec/network.hpp>

#include "backend.hpp"
#include "network/parameters.hpp"

namespace convec {

// What a pass over the plan is.
struct Pass {
  Context context;
  std::int64_t batch = 0;
  bool training = false;
  std::uint64_t seed = 0;       // of dropout
  std::uint64_t iteration = 0;  // counter of dropout
  // On a device: where a step that is replayed finds that counter (from 1); null: `iteration` counts.
  const StepState* state = nullptr;
  std::uint64_t rank = 0;  // in a data-parallel job
};

class Node {
 public:
  Node(std::size_t layer, const Shape& input, const Shape& output)
      : layer_(layer), input_size_(input.size()), output_size_(output.size()) {}
  virtual ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  // First layer this node computes.
  std::size_t layer() const noexcept { return layer_; }
  // Floats a sample.
  std::int64_t input_size() const noexcept { return input_size_; }
  std::int64_t output_size() const noexcept { return output_size_; }
  // Floats kept from the forward to the backward pass of a batch, besides input and output.
  virtual std::int64_t state_size(std::int64_t batch) const;
  virtual bool has_parameters() const noexcept { return false; }

  // Makes the copies of the weights that inference on the CPU uses, from now on until weights change.
  virtual void prepare();

  // Writes `output` and returns it, or returns `input` where nothing is to be done.
  virtual const float* forward(const Pass& pass, const float* input, float* output, float* state) const = 0;

  // `input` and `output` are what forward was given and returned. May overwrite `grad_output`. `grad_input` is null
  // where nobody needs it. Writes the parameters' gradients. Returns where the gradient to the input is: grad_input,
  // or grad_output where the two are the same.
  virtual float* backward(const Pass& pass, const float* input, const float* output, const float* state,
                          float* grad_output, float* grad_input) = 0;

 private:
  std::size_t layer_;
  std::int64_t input_size_;
  std::int64_t output_size_;
};

// A layer list compiled for an input shape.
struct Plan {
  std::vector<Shape> shapes;  // of one sample after each layer
  std::vector<std::unique_ptr<Node>> nodes;
  // The last node is a softmax over the last axis: a cross-entropy may be taken from its input instead.
  bool ends_in_softmax = false;
};

// Declares the layers' parameters in `parameters`, which is to allocate them then, and builds the plan.
// Throws ShapeError and ValueError, naming the layer.
Plan compile_plan(const std::vector<Layer>& layers, const Shape& input, Parameters& parameters);

}  // namespace convec
