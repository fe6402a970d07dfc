/// @file optimizer.hpp
/// One fused step of each optimizer over a parameter array. Update rules and defaults are Keras 3's
/// (keras.optimizers), so that a run can be compared weight by weight.
#pragma once

#include <cstdint>

#include <convec/context.hpp>
#include <convec/export.hpp>
#include <convec/tensor.hpp>

namespace convec {

/// Keras' optimizers.
enum class Optimizer : std::uint8_t { sgd, adam, adamw, rmsprop, adadelta };

/// "sgd", "adam", ...
CONVEC_API const char* name_of(Optimizer optimizer) noexcept;
/// @throws ValueError the name is not one of the optimizers.
CONVEC_API Optimizer parse_optimizer(const char* name);

/// Hyper-parameters; those an optimizer does not use are ignored. `defaults` fills in Keras' values.
struct CONVEC_API OptimizerOptions {
  Optimizer optimizer = Optimizer::adam;  ///< which
  float learning_rate = 0.001F;           ///< step size
  float momentum = 0.0F;                  ///< SGD, RMSprop
  bool nesterov = false;                  ///< SGD
  /// Decay rates are doubles, because the rules use 1 - rate, and that of the nearest float is off by up to 1e-5.
  double beta_1 = 0.9;        ///< Adam, AdamW
  double beta_2 = 0.999;      ///< Adam, AdamW
  double rho = 0.9;           ///< RMSprop 0.9, Adadelta 0.95
  float epsilon = 1e-7F;      ///< outside the root in Adam, inside it in RMSprop and Adadelta
  bool amsgrad = false;       ///< Adam, AdamW
  bool centered = false;      ///< RMSprop
  float weight_decay = 0.0F;  ///< decoupled: parameter -= parameter * weight_decay * learning_rate first
  /// Gradient clipping, 0 = none; at most one may be set. clipnorm is per parameter, global_clipnorm over all.
  float clipnorm = 0.0F;
  float clipvalue = 0.0F;        ///< largest element of a gradient; 0: any
  float global_clipnorm = 0.0F;  ///< largest norm of all gradients together; 0: any

  /// Keras' numbers for an optimizer.
  static OptimizerOptions defaults(Optimizer optimizer);
};

/// Number of state arrays ("slots") of the parameter's size the optimizer keeps: SGD 0 (momentum 1), Adam 2
/// (amsgrad 3), RMSprop 1 (+1 with momentum, +1 centered), Adadelta 2. They start at zero. Order: SGD momentum;
/// Adam m, v, v_hat; RMSprop velocity, momentum, average gradient; Adadelta accumulated gradient, accumulated delta.
CONVEC_API int optimizer_slot_count(const OptimizerOptions& options);

/// Updates `parameter` and `slots` in place from `gradient` (clipvalue is applied here; norms are not: scale the
/// gradient by optimizer_clip_scale first through `gradient_scale`).
/// @param iteration 1 for the first step (Adam's bias correction)
/// @param slots optimizer_slot_count() arrays of the parameter's shape
/// @throws ShapeError shapes differ. @throws DTypeError not float32. @throws ValueError a hyper-parameter out of range.
CONVEC_API void optimizer_step(const Context& context, const OptimizerOptions& options, std::int64_t iteration,
                               TensorView parameter, ConstTensorView gradient, const TensorView* slots,
                               float gradient_scale = 1.0F);

/// Sum of squares of an array in double precision, in a fixed order: for the norms of gradient clipping.
CONVEC_API double sum_of_squares(const Context& context, ConstTensorView array);

}  // namespace convec
