#include <convec/ops/optimizer.hpp>

#include <cstring>
#include <string>

#include "op_table.hpp"
#include "ops/check.hpp"
#include "ops/optimizer.hpp"

namespace convec {

namespace {

constexpr Optimizer optimizers[] = {Optimizer::sgd, Optimizer::adam, Optimizer::adamw, Optimizer::rmsprop,
                                    Optimizer::adadelta};

void fraction(double value, const char* name) {
  if (value >= 0.0 && value < 1.0) return;
  throw ValueError(std::string(name) + " is " + std::to_string(value) + ", but must be at least 0 and below 1");
}

void not_negative(float value, const char* name) {
  if (value >= 0.0F) return;
  throw ValueError(std::string(name) + " is " + std::to_string(value) + ", but must not be negative");
}

}  // namespace

const char* name_of(Optimizer optimizer) noexcept {
  switch (optimizer) {
    case Optimizer::sgd:
      return "sgd";
    case Optimizer::adam:
      return "adam";
    case Optimizer::adamw:
      return "adamw";
    case Optimizer::rmsprop:
      return "rmsprop";
    case Optimizer::adadelta:
      return "adadelta";
  }
  return "?";
}

Optimizer parse_optimizer(const char* name) {
  std::string names;
  for (const Optimizer optimizer : optimizers) {
    if (std::strcmp(name, name_of(optimizer)) == 0) return optimizer;
    names += std::string(names.empty() ? "" : ", ") + name_of(optimizer);
  }
  throw ValueError("optimizer is '" + std::string(name) + "', but must be one of " + names);
}

OptimizerOptions OptimizerOptions::defaults(Optimizer optimizer) {
  OptimizerOptions options;
  options.optimizer = optimizer;
  switch (optimizer) {
    case Optimizer::sgd:
      options.learning_rate = 0.01F;
      break;
    case Optimizer::adam:
    case Optimizer::rmsprop:
      break;
    case Optimizer::adamw:
      options.weight_decay = 0.004F;
      break;
    case Optimizer::adadelta:
      options.rho = 0.95;
      break;
  }
  return options;
}

int optimizer_slot_count(const OptimizerOptions& options) {
  switch (options.optimizer) {
    case Optimizer::sgd:
      return options.momentum != 0.0F ? 1 : 0;
    case Optimizer::adam:
    case Optimizer::adamw:
      return options.amsgrad ? 3 : 2;
    case Optimizer::rmsprop:
      return 1 + (options.momentum > 0.0F ? 1 : 0) + (options.centered ? 1 : 0);
    case Optimizer::adadelta:
      return 2;
  }
  return 0;
}

void check_optimizer(const OptimizerOptions& o) {
  not_negative(o.learning_rate, "learning_rate");
  not_negative(o.weight_decay, "weight_decay");
  not_negative(o.clipnorm, "clipnorm");
  not_negative(o.clipvalue, "clipvalue");
  not_negative(o.global_clipnorm, "global_clipnorm");
  if ((o.clipnorm > 0.0F) + (o.clipvalue > 0.0F) + (o.global_clipnorm > 0.0F) > 1)
    throw ValueError("at most one of clipnorm, clipvalue and global_clipnorm may be set");
  switch (o.optimizer) {
    case Optimizer::sgd:
      // Keras allows 1.
      if (!(o.momentum >= 0.0F && o.momentum <= 1.0F))
        throw ValueError("momentum is " + std::to_string(o.momentum) + ", but must be at least 0 and at most 1");
      break;
    case Optimizer::adam:
    case Optimizer::adamw:
      fraction(o.beta_1, "beta_1");
      fraction(o.beta_2, "beta_2");
      not_negative(o.epsilon, "epsilon");
      break;
    case Optimizer::rmsprop:
      if (!(o.momentum >= 0.0F && o.momentum <= 1.0F))
        throw ValueError("momentum is " + std::to_string(o.momentum) + ", but must be at least 0 and at most 1");
      fraction(o.rho, "rho");
      not_negative(o.epsilon, "epsilon");
      break;
    case Optimizer::adadelta:
      fraction(o.rho, "rho");
      not_negative(o.epsilon, "epsilon");
      break;
  }
}

void optimizer_step(const Context& context, const OptimizerOptions& options, std::int64_t iteration,
                    TensorView parameter, ConstTensorView gradient, const TensorView* slots, float gradient_scale) {
  check_optimizer(options);
  if (iteration < 1)
    throw ValueError("iteration is " + std::to_string(iteration) + ", but must be at least 1, that of the first step");
  check::float32(parameter, "parameter");
  check::argument(gradient, "gradient", parameter.shape, "the shape of parameter", parameter, "parameter");
  check::no_overlap(parameter, "parameter", gradient, "gradient");
  constexpr int most_slots = 3;
  float* arrays[most_slots] = {};
  for (int slot = 0; slot < optimizer_slot_count(options); ++slot) {
    const std::string name = "slots[" + std::to_string(slot) + "]";
    check::argument(slots[slot], name.c_str(), parameter.shape, "the shape of parameter", parameter, "parameter");
    check::no_overlap(slots[slot], name.c_str(), parameter, "parameter");
    check::no_overlap(slots[slot], name.c_str(), gradient, "gradient");
    for (int other = 0; other < slot; ++other)
      check::no_overlap(slots[slot], name.c_str(), slots[other], "another slot");
    arrays[slot] = slots[slot].f32();
  }
  const std::int64_t size = parameter.shape.size();
  if (size == 0) return;
  op_table(parameter.device)
      .optimizer_step(context, options, iteration, size, parameter.f32(), gradient.f32(), arrays, gradient_scale);
}

double sum_of_squares(const Context& context, ConstTensorView array) {
  check::float32(array, "array");
  const std::int64_t size = array.shape.size();
  return size == 0 ? 0.0 : op_table(array.device).sum_of_squares(context, size, array.f32());
}

}  // namespace convec
