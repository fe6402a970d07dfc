#include "cpu/kernels/optimizer.hpp"

#include "cpu/kernels/math.hpp"

namespace convec::cpu::CONVEC_ISA_NAMESPACE {

void fill_optimizer(OptimizerKernels& kernels);

namespace {

// What every optimizer does with the gradient and the parameter before its own rule.
struct Common {
  Vec scale;
  Vec clip;
  Vec decay;  // weight_decay * learning_rate
  bool clips;
  bool decays;
};

CONVEC_INLINE Common common_of(const OptimizerOptions& o, float gradient_scale) {
  return {vec_set(gradient_scale), vec_set(o.clipvalue), vec_set(o.weight_decay * o.learning_rate), o.clipvalue > 0.0F,
          o.weight_decay > 0.0F};
}

CONVEC_INLINE Vec gradient_at(const Common& common, const float* gradient, std::int64_t left) {
  const Vec g = vec_mul(vec_load_some(gradient, left), common.scale);
  return common.clips ? vec_clip(g, vec_negate(common.clip), common.clip) : g;
}

CONVEC_INLINE Vec parameter_at(const Common& common, const float* parameter, std::int64_t left) {
  const Vec p = vec_load_some(parameter, left);
  return common.decays ? vec_sub(p, vec_mul(p, common.decay)) : p;
}

void sgd(const OptimizerOptions& o, float rate, std::int64_t size, float* parameter, const float* gradient,
         float* const* slots, float gradient_scale) {
  const Common common = common_of(o, gradient_scale);
  const Vec lr = vec_set(rate);
  const Vec momentum = vec_set(o.momentum);
  for (std::int64_t i = 0; i < size; i += vec_width) {
    const std::int64_t left = size - i;
    const Vec g = gradient_at(common, gradient + i, left);
    Vec p = parameter_at(common, parameter + i, left);
    if (o.momentum == 0.0F) {
      p = vec_sub(p, vec_mul(g, lr));
    } else {
      const Vec step = vec_mul(g, lr);
      const Vec m = vec_sub(vec_mul(vec_load_some(slots[0] + i, left), momentum), step);
      vec_store_some(slots[0] + i, m, left);
      p = vec_add(p, o.nesterov ? vec_sub(vec_mul(m, momentum), step) : m);
    }
    vec_store_some(parameter + i, p, left);
  }
}

void adam(const OptimizerOptions& o, float rate, std::int64_t size, float* parameter, const float* gradient,
          float* const* slots, float gradient_scale) {
  const Common common = common_of(o, gradient_scale);
  const Vec alpha = vec_set(rate);
  const Vec epsilon = vec_set(o.epsilon);
  const Vec gain_1 = vec_set(static_cast<float>(1.0 - o.beta_1));
  const Vec gain_2 = vec_set(static_cast<float>(1.0 - o.beta_2));
  for (std::int64_t i = 0; i < size; i += vec_width) {
    const std::int64_t left = size - i;
    const Vec g = gradient_at(common, gradient + i, left);
    const Vec p = parameter_at(common, parameter + i, left);
    Vec m = vec_load_some(slots[0] + i, left);
    Vec v = vec_load_some(slots[1] + i, left);
    m = vec_fma(vec_sub(g, m), gain_1, m);
    v = vec_fma(vec_sub(vec_mul(g, g), v), gain_2, v);
    vec_store_some(slots[0] + i, m, left);
    vec_store_some(slots[1] + i, v, left);
    if (o.amsgrad) {
      const Vec highest = vec_load_some(slots[2] + i, left);
      v = vec_select(vec_less(v, highest), highest, v);
      vec_store_some(slots[2] + i, v, left);
    }
    vec_store_some(parameter + i, vec_sub(p, vec_mul(m, alpha) / vec_add(vec_sqrt(v), epsilon)), left);
  }
}

void rmsprop(const OptimizerOptions& o, float rate, std::int64_t size, float* parameter, const float* gradient,
             float* const* slots, float gradient_scale) {
  const Common common = common_of(o, gradient_scale);
  const Vec lr = vec_set(rate);
  const Vec epsilon = vec_set(o.epsilon);
  const Vec rho = vec_set(static_cast<float>(o.rho));
  const Vec gain = vec_set(static_cast<float>(1.0 - o.rho));
  const Vec momentum = vec_set(o.momentum);
  float* moments = o.momentum > 0.0F ? slots[1] : nullptr;
  float* averages = o.centered ? slots[o.momentum > 0.0F ? 2 : 1] : nullptr;
  for (std::int64_t i = 0; i < size; i += vec_width) {
    const std::int64_t left = size - i;
    const Vec g = gradient_at(common, gradient + i, left);
    const Vec p = parameter_at(common, parameter + i, left);
    const Vec v = vec_fma(vec_load_some(slots[0] + i, left), rho, vec_mul(gain, vec_mul(g, g)));
    vec_store_some(slots[0] + i, v, left);
    Vec spread = v;
    if (averages != nullptr) {
      const Vec average = vec_fma(vec_load_some(averages + i, left), rho, vec_mul(gain, g));
      vec_store_some(averages + i, average, left);
      spread = vec_sub(v, vec_mul(average, average));
    }
    Vec step = vec_mul(lr, g) / vec_sqrt(vec_add(spread, epsilon));
    if (moments != nullptr) {
      step = vec_fma(vec_load_some(moments + i, left), momentum, step);
      vec_store_some(moments + i, step, left);
    }
    vec_store_some(parameter + i, vec_sub(p, step), left);
  }
}

void adadelta(const OptimizerOptions& o, float rate, std::int64_t size, float* parameter, const float* gradient,
              float* const* slots, float gradient_scale) {
  const Common common = common_of(o, gradient_scale);
  const Vec lr = vec_set(rate);
  const Vec epsilon = vec_set(o.epsilon);
  const Vec rho = vec_set(static_cast<float>(o.rho));
  const Vec gain = vec_set(static_cast<float>(1.0 - o.rho));
  for (std::int64_t i = 0; i < size; i += vec_width) {
    const std::int64_t left = size - i;
    const Vec g = gradient_at(common, gradient + i, left);
    const Vec p = parameter_at(common, parameter + i, left);
    const Vec squares = vec_fma(vec_load_some(slots[0] + i, left), rho, vec_mul(gain, vec_mul(g, g)));
    Vec deltas = vec_load_some(slots[1] + i, left);
    const Vec size_of_steps = vec_sqrt(vec_add(deltas, epsilon));
    const Vec delta = vec_negate(vec_mul(size_of_steps, g) / vec_sqrt(vec_add(squares, epsilon)));
    deltas = vec_fma(deltas, rho, vec_mul(gain, vec_mul(delta, delta)));
    vec_store_some(slots[0] + i, squares, left);
    vec_store_some(slots[1] + i, deltas, left);
    vec_store_some(parameter + i, vec_fma(lr, delta, p), left);
  }
}

void step(const OptimizerOptions& o, float rate, std::int64_t size, float* parameter, const float* gradient,
          float* const* slots, float gradient_scale) {
  switch (o.optimizer) {
    case Optimizer::sgd:
      return sgd(o, rate, size, parameter, gradient, slots, gradient_scale);
    case Optimizer::adam:
    case Optimizer::adamw:
      return adam(o, rate, size, parameter, gradient, slots, gradient_scale);
    case Optimizer::rmsprop:
      return rmsprop(o, rate, size, parameter, gradient, slots, gradient_scale);
    case Optimizer::adadelta:
      return adadelta(o, rate, size, parameter, gradient, slots, gradient_scale);
  }
}

double sum_of_squares(std::int64_t size, const float* array) {
  constexpr std::int64_t lanes = 16;
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= size; i += lanes)
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const double x = array[i + lane];
      sums[lane] += x * x;
    }
  for (std::int64_t lane = 0; i + lane < size; ++lane) {
    const double x = array[i + lane];
    sums[lane] += x * x;
  }
  for (std::int64_t half = lanes / 2; half > 0; half /= 2)
    for (std::int64_t lane = 0; lane < half; ++lane) sums[lane] += sums[lane + half];
  return sums[0];
}

}  // namespace

void fill_optimizer(OptimizerKernels& kernels) {
  kernels.step = step;
  kernels.sum_of_squares = sum_of_squares;
}

}  // namespace convec::cpu::CONVEC_ISA_NAMESPACE
