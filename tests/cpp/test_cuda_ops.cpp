// Every op of the CUDA backend on the emulated device, in every order of its threads: against the CPU, bit by bit the
// same in all orders, and nothing written beside the arrays. Under AddressSanitizer nothing may be read there either.
#include <dlfcn.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <convec/cuda.hpp>
#include <convec/error.hpp>
#include <convec/network.hpp>
#include <convec/ops/activation.hpp>
#include <convec/ops/batch_norm.hpp>
#include <convec/ops/conv2d.hpp>
#include <convec/ops/dense.hpp>
#include <convec/ops/loss.hpp>
#include <convec/ops/optimizer.hpp>
#include <convec/ops/pool2d.hpp>
#include <convec/ops/softmax_cross_entropy.hpp>

#include "backend.hpp"
#include "cublas_lt.hpp"
#include "cublas_lt_stand_in.hpp"
#include "cuda_backend.hpp"
#include "emulation.hpp"
#include "launch.hpp"
#include "op_table.hpp"
#include "ops/conv2d.hpp"
#include "ops/pool2d.hpp"
#include "tensor_core.hpp"
#include "test.hpp"

namespace {

using convec::Activation;
using convec::Context;
using convec::Conv2dOptions;
using convec::Device;
using convec::DeviceType;
using convec::DType;
using convec::Padding;
using convec::Pool2dOptions;
using convec::Shape;
using convec::Tensor;
using convec::TensorView;
using convec::emulation::Schedule;
using std::int64_t;

constexpr Schedule schedules[] = {Schedule::round_robin, Schedule::round_robin_reversed, Schedule::one_warp,
                                  Schedule::one_warp_reversed, Schedule::shuffled};
constexpr Device cuda{DeviceType::cuda, 0};

// Numbers in [low, high) from a linear congruential generator.
Tensor random(const Shape& shape, std::uint32_t seed, float low = -1.0F, float high = 1.0F) {
  Tensor tensor(shape);
  std::uint32_t state = seed * 2654435761U + 12345U;
  for (int64_t i = 0; i < shape.size(); ++i) {
    state = state * 1664525U + 1013904223U;
    tensor.f32()[i] = low + (high - low) * static_cast<float>(state >> 8U) / 16777216.0F;
  }
  return tensor;
}

Tensor as_bfloat16(const Tensor& tensor) {
  Tensor rounded(tensor.shape(), DType::bfloat16);
  for (int64_t i = 0; i < tensor.shape().size(); ++i)
    rounded.view().bf16()[i].bits = static_cast<std::uint16_t>(convec::cuda::to_bfloat16_pair(tensor.f32()[i], 0.0F));
  return rounded;
}

float as_float(convec::BFloat16 number) { return __uint_as_float(std::uint32_t{number.bits} << 16U); }

Tensor labels(int64_t rows, int64_t classes) {
  Tensor tensor({rows}, DType::int64);
  for (int64_t i = 0; i < rows; ++i) static_cast<int64_t*>(tensor.view().data)[i] = (7 * i + 3) % classes;
  return tensor;
}

// Where an op runs: makes its arguments and keeps what it wrote.
class Place {
 public:
  Place() = default;
  virtual ~Place() = default;
  Place(const Place&) = delete;
  Place& operator=(const Place&) = delete;
  virtual Context context() const = 0;
  // Of the device's products; the host's are float32.
  virtual void set_precision(convec::MatmulPrecision) {}
  virtual TensorView array(const Tensor& host) = 0;
  // A float32 tensor rounded to bfloat16: of that type on the device, of float32 on the host.
  virtual TensorView bfloat16(const Tensor& host) = 0;
  // All arrays as they are now, in the order they were made.
  virtual std::vector<std::vector<float>> read() = 0;
  TensorView zeros(const Shape& shape) { return array(Tensor(shape)); }
};

class OnHost final : public Place {
 public:
  Context context() const override { return {}; }
  TensorView array(const Tensor& host) override {
    auto copy = std::make_unique<Tensor>(host.shape(), host.dtype());
    std::memcpy(copy->view().data, host.view().data,
                static_cast<std::size_t>(host.shape().size()) * size_of(host.dtype()));
    arrays_.push_back(std::move(copy));
    return arrays_.back()->view();
  }
  TensorView bfloat16(const Tensor& host) override {
    const Tensor rounded = as_bfloat16(host);
    const TensorView copy = array(host);
    for (int64_t i = 0; i < host.shape().size(); ++i) copy.f32()[i] = as_float(rounded.view().bf16()[i]);
    return copy;
  }
  std::vector<std::vector<float>> read() override {
    std::vector<std::vector<float>> all;
    for (const auto& array : arrays_) {
      if (array->dtype() != DType::float32) continue;
      all.emplace_back(array->f32(), array->f32() + array->shape().size());
    }
    return all;
  }

 private:
  std::vector<std::unique_ptr<Tensor>> arrays_;
};

// With `guard` bytes before and after each array that must stay as they are.
class OnDevice final : public Place {
 public:
  explicit OnDevice(std::size_t guard) : guard_(guard) {}
  ~OnDevice() override {
    for (const Entry& entry : arrays_) convec::backend(cuda).release(cuda, entry.memory);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

  Context context() const override { return {cuda, nullptr, precision_}; }
  void set_precision(convec::MatmulPrecision precision) override { precision_ = precision; }
  TensorView array(const Tensor& host) override {
    const std::size_t bytes = static_cast<std::size_t>(host.shape().size()) * size_of(host.dtype());
    std::vector<std::byte> image(bytes + 2 * guard_, std::byte{0xA5});
    if (bytes > 0) std::memcpy(image.data() + guard_, host.view().data, bytes);
    void* memory = convec::backend(cuda).allocate(cuda, image.size());
    convec::backend(cuda).copy_in(context(), memory, image.data(), image.size());
    arrays_.push_back({memory, bytes, host.dtype()});
    return {static_cast<std::byte*>(memory) + guard_, host.dtype(), host.shape(), cuda};
  }
  TensorView bfloat16(const Tensor& host) override { return array(as_bfloat16(host)); }
  std::vector<std::vector<float>> read() override {
    std::vector<std::vector<float>> all;
    for (const Entry& entry : arrays_) {
      std::vector<std::byte> image(entry.bytes + 2 * guard_);
      convec::backend(cuda).copy_out(context(), image.data(), entry.memory, image.size());
      convec::backend(cuda).wait(context());
      for (std::size_t i = 0; i < guard_; ++i)
        CHECK(image[i] == std::byte{0xA5} && image[image.size() - 1 - i] == std::byte{0xA5});
      if (entry.dtype == DType::bfloat16) {
        std::vector<convec::BFloat16> numbers(entry.bytes / sizeof(convec::BFloat16));
        if (!numbers.empty()) std::memcpy(numbers.data(), image.data() + guard_, entry.bytes);
        all.emplace_back();
        for (const convec::BFloat16 number : numbers) all.back().push_back(as_float(number));
      } else if (entry.dtype == DType::float32) {
        std::vector<float> values(entry.bytes / sizeof(float));
        if (!values.empty()) std::memcpy(values.data(), image.data() + guard_, entry.bytes);
        all.push_back(std::move(values));
      }
    }
    return all;
  }

 private:
  struct Entry {
    void* memory;
    std::size_t bytes;
    DType dtype;
  };
  std::size_t guard_;
  convec::MatmulPrecision precision_ = convec::MatmulPrecision::float32;
  std::vector<Entry> arrays_;
};

// Runs on the CPU and, in every order, on the device. |difference| <= tolerance * the array's largest element.
void compare(const std::function<void(Place&)>& run, double tolerance = 2e-5) {
  OnHost host;
  run(host);
  const auto expected = host.read();
  std::vector<std::vector<float>> first;
  for (const Schedule schedule : schedules) {
    convec::emulation::set_schedule(schedule, 17);
    for (const std::size_t guard : {std::size_t{0}, std::size_t{256}}) {
      OnDevice device(guard);
      run(device);
      const auto found = device.read();
      CHECK_EQ(found.size(), expected.size());
      if (first.empty()) first = found;
      for (std::size_t array = 0; array < found.size(); ++array) {
        double peak = 1e-30;
        for (const float value : expected[array]) peak = std::max(peak, std::abs(static_cast<double>(value)));
        CHECK_EQ(found[array].size(), expected[array].size());
        for (std::size_t i = 0; i < found[array].size(); ++i) {
          CHECK_NEAR(found[array][i], expected[array][i], tolerance * peak);
          CHECK_EQ(found[array][i], first[array][i]);
        }
      }
    }
  }
  convec::emulation::set_schedule(Schedule::round_robin);
}

// Ways to multiply, and what the rounding of two factors leaves of a sum's exactness, with room for unlucky sums.
struct Multiplication {
  convec::MatmulPrecision precision;
  double tolerance;
};
constexpr Multiplication in_float32{convec::MatmulPrecision::float32, 2e-5};
constexpr Multiplication on_tensor_cores[] = {{convec::MatmulPrecision::tf32, 4e-3},
                                              {convec::MatmulPrecision::tf32x3, 2e-5},
                                              {convec::MatmulPrecision::mixed_bfloat16, 3e-2}};

void compare_conv2d(const Shape& input, const Shape& filters, const Conv2dOptions& options,
                    Activation activation = Activation::linear, const Multiplication& way = in_float32) {
  const Shape output = conv2d_output_shape(input, filters, options);
  compare(
      [&](Place& place) {
        place.set_precision(way.precision);
        const TensorView x = place.array(random(input, 1));
        const TensorView w = place.array(random(filters, 2));
        const TensorView b = place.array(random({filters[3]}, 3));
        const TensorView g = place.array(random(output, 4));
        conv2d_forward(place.context(), x, w, b, options, activation, place.zeros(output));
        conv2d_backward_input(place.context(), g, w, options, place.zeros(input));
        conv2d_backward_filters(place.context(), x, g, options, place.zeros(filters), place.zeros({filters[3]}));
      },
      way.tolerance);
}

void compare_dense(int64_t batch, int64_t in, int64_t units, const Multiplication& way = in_float32,
                   Activation activation = Activation::tanh) {
  compare(
      [=](Place& place) {
        place.set_precision(way.precision);
        const TensorView x = place.array(random({batch, in}, 1));
        const TensorView w = place.array(random({in, units}, 2));
        const TensorView b = place.array(random({units}, 3));
        const TensorView g = place.array(random({batch, units}, 4));
        dense_forward(place.context(), x, w, b, activation, place.zeros({batch, units}));
        dense_backward_input(place.context(), g, w, place.zeros({batch, in}));
        dense_backward_weights(place.context(), x, g, place.zeros({in, units}), place.zeros({units}));
      },
      way.tolerance);
}

TEST(convolutions) {
  compare_conv2d({2, 7, 6, 3}, {3, 3, 3, 5}, {});
  compare_conv2d({1, 6, 9, 8}, {3, 2, 8, 12}, {{2, 1}, Padding::same(), {1, 2}}, Activation::gelu);
  compare_conv2d({2, 9, 8, 6}, {2, 3, 3, 4}, {{3, 2}, Padding::pixels(2, 0, 1, 3), {2, 3}, 2}, Activation::relu);
  compare_conv2d({2, 5, 5, 5}, {1, 1, 1, 5}, {{1, 1}, {}, {1, 1}, 5});
  compare_conv2d({1, 3, 3, 1}, {3, 3, 1, 1}, {});
}

// Large enough for the larger tiles and for sums in slices.
TEST(tiles) {
  compare_conv2d({1, 12, 11, 36}, {3, 3, 36, 68}, {{1, 1}, Padding::same(), {1, 1}});
  compare_dense(1, 1, 1);
  compare_dense(5, 13, 7);
  compare_dense(33, 70, 34);
  compare_dense(35, 600, 36);
  compare_dense(130, 20, 136);
}

// Runs it in every precision, by asynchronous copies and through registers.
void on_all_tensor_cores(const std::function<void(const Multiplication&)>& run) {
  for (const bool pipelined : {false, true}) {
    convec::cuda::pipeline_products(pipelined);
    for (const Multiplication& way : on_tensor_cores) run(way);
  }
  CHECK(convec::cuda::pipeline_products(true));
}

// Operands that lie either way, sums in slices, gathers in fours and one by one; more steps than stages.
TEST(convolutions_on_tensor_cores) {
  on_all_tensor_cores([](const Multiplication& way) {
    compare_conv2d({2, 7, 6, 4}, {3, 3, 4, 5}, {}, Activation::linear, way);
    compare_conv2d({1, 6, 9, 8}, {3, 2, 8, 12}, {{2, 1}, Padding::same(), {1, 2}}, Activation::linear, way);
    compare_conv2d({2, 9, 8, 6}, {2, 3, 3, 4}, {{3, 2}, Padding::pixels(2, 0, 1, 3), {2, 3}, 2}, Activation::relu, way);
    compare_conv2d({2, 9, 8, 8}, {2, 3, 4, 8}, {{3, 2}, Padding::pixels(2, 0, 1, 3), {2, 3}, 2}, Activation::relu, way);
    compare_conv2d({1, 9, 8, 12}, {3, 3, 12, 68}, {{1, 1}, Padding::same(), {1, 1}}, Activation::linear, way);
  });
}

// Tiles of all sizes, whole and cut.
TEST(dense_on_tensor_cores) {
  on_all_tensor_cores([](const Multiplication& way) {
    compare_dense(5, 13, 7, way);
    compare_dense(35, 200, 36, way);
    compare_dense(130, 36, 136, way);
    compare_dense(150, 68, 40, way);
  });
}

// Arrays of bfloat16: exact products of factors that are rounded on the host as well; results are rounded once.
constexpr double one_rounding = 0x1p-8;

void compare_conv2d_of_bfloat16(const Shape& input, const Shape& filters, const Conv2dOptions& options,
                                Activation activation = Activation::linear) {
  const Shape output = conv2d_output_shape(input, filters, options);
  compare(
      [&](Place& place) {
        const TensorView x = place.bfloat16(random(input, 1));
        const TensorView w = place.bfloat16(random(filters, 2));
        const TensorView b = place.array(random({filters[3]}, 3));
        const TensorView g = place.bfloat16(random(output, 4));
        conv2d_forward(place.context(), x, w, b, options, activation, place.bfloat16(Tensor(output)));
        conv2d_backward_input(place.context(), g, w, options, place.bfloat16(Tensor(input)));
        conv2d_backward_filters(place.context(), x, g, options, place.zeros(filters), place.zeros({filters[3]}));
      },
      one_rounding);
}

void compare_dense_of_bfloat16(int64_t batch, int64_t in, int64_t units) {
  compare(
      [=](Place& place) {
        const TensorView x = place.bfloat16(random({batch, in}, 1));
        const TensorView w = place.bfloat16(random({in, units}, 2));
        const TensorView b = place.array(random({units}, 3));
        const TensorView g = place.bfloat16(random({batch, units}, 4));
        dense_forward(place.context(), x, w, b, Activation::tanh, place.bfloat16(Tensor({batch, units})));
        dense_forward(place.context(), x, w, {}, Activation::linear, place.bfloat16(Tensor({batch, units})));
        dense_backward_input(place.context(), g, w, place.bfloat16(Tensor({batch, in})));
        dense_backward_weights(place.context(), x, g, place.zeros({in, units}), place.zeros({units}));
      },
      one_rounding);
}

// Runs it by warps and by warpgroups.
void on_all_instructions(const std::function<void()>& run) {
  for (const bool warpgroups : {false, true}) {
    convec::cuda::use_warpgroups(warpgroups);
    run();
  }
  CHECK(convec::cuda::use_warpgroups(false));
}

// All tiles, whole and cut; sums in slices and not; more steps than stages.
void compare_convolutions_of_bfloat16() {
  compare_conv2d_of_bfloat16({2, 7, 6, 8}, {3, 3, 8, 16}, {});
  compare_conv2d_of_bfloat16({1, 6, 9, 16}, {3, 2, 16, 24}, {{2, 1}, Padding::same(), {1, 2}}, Activation::gelu);
  compare_conv2d_of_bfloat16({2, 9, 8, 16}, {2, 3, 8, 32}, {{3, 2}, Padding::pixels(2, 0, 1, 3), {2, 3}, 2});
  compare_conv2d_of_bfloat16({1, 13, 12, 72}, {3, 3, 72, 136}, {{1, 1}, Padding::same(), {1, 1}}, Activation::relu);
  compare_conv2d_of_bfloat16({2, 9, 8, 3}, {5, 4, 3, 8}, {{2, 1}, Padding::same(), {1, 1}});  // five more channels
  compare_conv2d_of_bfloat16({1, 5, 5, 3}, {3, 3, 3, 5}, {});                                 // by way of float32
}

TEST(convolutions_of_bfloat16) { on_all_instructions(compare_convolutions_of_bfloat16); }

void compare_layers_of_bfloat16() {
  compare_dense_of_bfloat16(1, 8, 8);
  compare_dense_of_bfloat16(35, 600, 40);
  compare_dense_of_bfloat16(130, 24, 136);
  compare_dense_of_bfloat16(136, 72, 64);
  compare_dense_of_bfloat16(5, 13, 7);
}
TEST(dense_of_bfloat16) { on_all_instructions(compare_layers_of_bfloat16); }

// What a warp multiplies is what its lanes are said to hold.
namespace kernels {
__global__ void multiply_kernel(const float* a, const float* b, float* c) {
  using convec::cuda::multiply_tf32;
  using convec::cuda::to_tf32;
  using convec::cuda::Word;
  const auto lane = static_cast<int>(threadIdx.x);
  const int group = lane / 4;
  const int member = lane % 4;
  const Word of_a[4] = {to_tf32(a[group * 8 + member]), to_tf32(a[(group + 8) * 8 + member]),
                        to_tf32(a[group * 8 + member + 4]), to_tf32(a[(group + 8) * 8 + member + 4])};
  const Word of_b[2] = {to_tf32(b[member * 8 + group]), to_tf32(b[(member + 4) * 8 + group])};
  float sums[4] = {};
  multiply_tf32(sums, of_a, of_b);
  for (int i = 0; i < 4; ++i) c[(group + i / 2 * 8) * 8 + member * 2 + i % 2] = sums[i];
}
}  // namespace kernels

TEST(fragments) {
  OnDevice device(0);
  Tensor a({16, 8});
  Tensor b({8, 8});
  for (int64_t i = 0; i < 128; ++i) a.f32()[i] = static_cast<float>(i % 61 - 30);
  for (int64_t i = 0; i < 64; ++i) b.f32()[i] = static_cast<float>(i % 23 - 11);
  const TensorView on_device_a = device.array(a);
  const TensorView on_device_b = device.array(b);
  const TensorView c = device.zeros({16, 8});
  convec::cuda::launch(kernels::multiply_kernel, {1, 32, 0, nullptr}, on_device_a.f32(), on_device_b.f32(), c.f32());
  const auto found = device.read();
  for (int64_t row = 0; row < 16; ++row)
    for (int64_t column = 0; column < 8; ++column) {
      float sum = 0.0F;
      for (int64_t k = 0; k < 8; ++k) sum += a.f32()[row * 8 + k] * b.f32()[k * 8 + column];
      CHECK_EQ(found[2][static_cast<std::size_t>(row * 8 + column)], sum);
    }
}

TEST(rounding_to_tf32_and_bfloat16) {
  using convec::cuda::to_bfloat16_pair;
  using convec::cuda::to_tf32;
  const auto bits = [](float value) { return __float_as_uint(value); };
  CHECK_EQ(to_tf32(1.0F), bits(1.0F));
  CHECK_EQ(to_tf32(__uint_as_float(0x3F801000U)), 0x3F800000U);  // half a step: to even
  CHECK_EQ(to_tf32(__uint_as_float(0xBF803000U)), 0xBF804000U);
  CHECK_EQ(to_tf32(__uint_as_float(0x3F801001U)), 0x3F802000U);
  CHECK_EQ(to_tf32(__uint_as_float(0x3F800FFFU)), 0x3F800000U);
  CHECK_EQ(to_tf32(INFINITY), bits(INFINITY));
  CHECK(std::isnan(__uint_as_float(to_tf32(__uint_as_float(0x7F800001U)))));
  CHECK_EQ(to_bfloat16_pair(1.0F, -2.0F), 0xC0003F80U);
  CHECK_EQ(to_bfloat16_pair(__uint_as_float(0x3F808000U), __uint_as_float(0x3F818000U)), 0x3F823F80U);  // to even
  CHECK_EQ(to_bfloat16_pair(__uint_as_float(0x7F800001U), INFINITY), 0x7F807FFFU);
}

// Devices before 8.0 compute in float32 what they are asked to do on tensor cores.
TEST(without_tensor_cores) {
  const auto product = [](convec::MatmulPrecision precision) {
    OnDevice device(0);
    device.set_precision(precision);
    const TensorView x = device.array(random({9, 40}, 1));
    const TensorView w = device.array(random({40, 11}, 2));
    dense_forward(device.context(), x, w, {}, Activation::linear, device.zeros({9, 11}));
    return device.read()[2];
  };
  const auto exact = product(convec::MatmulPrecision::float32);
  for (const Multiplication& way : on_tensor_cores) {
    CHECK(product(way.precision) != exact);
    convec::emulation::set_compute_capability(7, 5);
    CHECK(product(way.precision) == exact);
    convec::emulation::set_compute_capability(9, 0);
  }
}

// A cuBLASLt for all products while it lives: the stand-in, which computes on the host.
class WithCublasLt {
 public:
  WithCublasLt() : library_(CONVEC_CUBLASLT_STAND_IN) {
    void* const opened = ::dlopen(CONVEC_CUBLASLT_STAND_IN, RTLD_NOW);
    const auto find = reinterpret_cast<convec::test::CublasLtStandIn* (*)()>(::dlsym(opened, "convec_stand_in"));
    stand_in_ = find();
    *stand_in_ = {};
    stand_in_->launch = [](void* stream, void (*work)(void*), void* data) {
      CHECK(convec::emulation::launch(1, 1, 0, static_cast<cudaStream_t>(stream), [=] { work(data); }) == cudaSuccess);
    };
    convec::cuda::replace_cublas_lt(&library_);
  }
  ~WithCublasLt() { convec::cuda::replace_cublas_lt(nullptr); }
  WithCublasLt(const WithCublasLt&) = delete;
  WithCublasLt& operator=(const WithCublasLt&) = delete;

  convec::test::CublasLtStandIn& stand_in() const { return *stand_in_; }
  const convec::cuda::CublasLt& library() const { return library_; }

 private:
  convec::cuda::CublasLt library_;
  convec::test::CublasLtStandIn* stand_in_;
};

TEST(dense_by_cublas_lt) {
  const WithCublasLt with;
  CHECK_EQ(with.library().name(), std::string("cuBLASLt 13.2.5 (") + CONVEC_CUBLASLT_STAND_IN + ")");
  const auto& calls = with.stand_in().calls;
  // The own kernels are not asked: forward, backward to the input, and to the weights with the bias.
  compare_dense(5, 13, 7, in_float32, Activation::relu);
  CHECK_EQ(calls.size() % 3, 0U);
  CHECK(calls.size() >= 30);
  const auto is = [](const convec::test::CublasLtStandIn::Call& call, std::uint64_t m, std::uint64_t n, std::uint64_t k,
                     bool a, bool b, std::uint32_t epilogue) {
    return call.m == m && call.n == n && call.k == k && call.transposed_a == a && call.transposed_b == b &&
           call.epilogue == epilogue && call.compute_type == 68 && (call.reduction_schemes & 1U) == 0;
  };
  CHECK(is(calls[0], 7, 5, 13, false, false, 6));   // RELU_BIAS
  CHECK(is(calls[1], 13, 5, 7, true, false, 1));    // DEFAULT
  CHECK(is(calls[2], 7, 13, 5, false, true, 256));  // BGRADA
  // Shapes are looked up once, but for other alignments.
  CHECK(with.stand_in().searches < 20);
  compare_dense(33, 70, 34, in_float32, Activation::linear);
  compare_dense(1, 1, 1, in_float32, Activation::relu);
}

TEST(precisions_by_cublas_lt) {
  const WithCublasLt with;
  auto& calls = with.stand_in().calls;
  for (const Multiplication& way : on_tensor_cores) {
    calls.clear();
    compare_dense(9, 40, 11, way, Activation::linear);
    // It has no product with float32's error on tensor cores: that is the own kernel's.
    CHECK_EQ(calls.empty(), way.precision == convec::MatmulPrecision::tf32x3);
    for (const auto& call : calls)
      CHECK_EQ(call.compute_type, way.precision == convec::MatmulPrecision::tf32 ? 77 : 75);
  }
  convec::emulation::set_compute_capability(7, 5);
  calls.clear();
  compare_dense(9, 40, 11, {convec::MatmulPrecision::tf32, 2e-5}, Activation::linear);
  for (const auto& call : calls) CHECK_EQ(call.compute_type, 68);
  convec::emulation::set_compute_capability(9, 0);
}

// But for a bias, which is float32.
TEST(bfloat16_by_cublas_lt) {
  const WithCublasLt with;
  const auto& calls = with.stand_in().calls;
  compare_dense_of_bfloat16(24, 40, 16);
  CHECK_EQ(calls.size() % 3, 0U);
  CHECK(calls.size() >= 30);
  for (const auto& call : calls) CHECK(call.epilogue == 1 && call.compute_type == 68);
  CHECK(calls[0].k == 40 && calls[1].k == 16 && calls[2].k == 24);
}

// What the library lacks, the own kernels do.
TEST(without_help_of_cublas_lt) {
  const auto calls_of = [](const std::function<void(convec::test::CublasLtStandIn&)>& set, Activation activation) {
    const WithCublasLt with;
    set(with.stand_in());
    compare_dense(5, 13, 7, in_float32, activation);
    std::vector<std::uint32_t> epilogues;
    for (const auto& call : with.stand_in().calls) epilogues.push_back(call.epilogue);
    epilogues.resize(std::min<std::size_t>(epilogues.size(), 3));
    return epilogues;
  };
  using StandIn = convec::test::CublasLtStandIn;
  using Epilogues = std::vector<std::uint32_t>;
  CHECK(calls_of([](StandIn& s) { s.nothing_supported = true; }, Activation::relu).empty());
  CHECK(calls_of([](StandIn& s) { s.matmul_status = 15; }, Activation::relu).empty());
  CHECK(calls_of([](StandIn& s) { s.unsupported_epilogue = 256; }, Activation::relu) == Epilogues({6, 1, 1}));
  CHECK(calls_of([](StandIn&) {}, Activation::gelu) == Epilogues({1, 256, 1}));
  const WithCublasLt with;
  with.stand_in().matmul_status = 13;
  CHECK_THROWS(compare_dense(5, 13, 7, in_float32, Activation::relu), convec::DeviceError, "CONVEC_CUBLASLT=0");
}

// Whole steps, captured once and replayed.
TEST(a_network_by_cublas_lt) {
  const auto trained = [](bool on_device) {
    convec::Network network(
        {convec::DenseLayer{9, true, Activation::relu}, convec::DenseLayer{6, false}, convec::DenseLayer{3}}, {12}, 1);
    convec::LossOptions loss;
    loss.from_logits = true;
    network.compile(loss, convec::OptimizerOptions::defaults(convec::Optimizer::adam), {});
    if (on_device) network.to(cuda);
    const Tensor x = random({22, 12}, 1);
    const Tensor y = labels(22, 3);
    convec::EpochOptions options;
    options.batch_size = 4;
    static_cast<void>(network.train_epoch({x.view(), y.view(), {}}, options));
    std::vector<float> weights;
    for (std::size_t i = 0; i < network.parameters().size(); ++i) {
      const convec::ConstTensorView value = network.parameter(i);
      weights.insert(weights.end(), value.f32(), value.f32() + value.shape.size());
    }
    return weights;
  };
  const WithCublasLt with;
  const auto found = trained(true);
  const auto expected = trained(false);
  CHECK_EQ(found.size(), expected.size());
  for (std::size_t i = 0; i < found.size(); ++i) CHECK_NEAR(found[i], expected[i], 1e-5);
  // The first step as it is launched and the second as it is captured, of whole batches; then the last, smaller one.
  // A layer without bias asks for no epilogue, the first for no gradient to its input.
  CHECK_EQ(with.stand_in().calls.size(), 3U * (3 + 3 + 2));
}

TEST(objects_of_cublas_lt_are_given_back) {
  convec::test::CublasLtStandIn* stand_in = nullptr;
  {
    const WithCublasLt with;
    stand_in = &with.stand_in();
    compare_dense(5, 13, 7, in_float32, Activation::relu);
    CHECK_EQ(stand_in->objects, 4 * stand_in->searches);  // a descriptor and three layouts a shape
  }
  CHECK_EQ(stand_in->objects, 0);
}

TEST(other_libraries_are_refused) {
  CHECK_THROWS(convec::cuda::CublasLt("libm.so.6"), convec::DeviceError, "libm.so.6 is no cuBLASLt");
  CHECK_THROWS(convec::cuda::CublasLt("/nowhere/libcublasLt.so.13"), convec::DeviceError, "cannot be loaded");
}

TEST(poolings) {
  const auto pool = [](const Shape& input, const Pool2dOptions& options) {
    const Shape output = pool2d_output_shape(input, options);
    compare([&](Place& place) {
      const TensorView x = place.array(random(input, 1));
      const TensorView g = place.array(random(output, 2));
      max_pool2d_forward(place.context(), x, options, place.zeros(output));
      max_pool2d_backward(place.context(), g, x, options, place.zeros(input));
      average_pool2d_forward(place.context(), x, options, place.zeros(output));
      average_pool2d_backward(place.context(), g, options, place.zeros(input));
    });
  };
  pool({2, 6, 8, 4}, {});
  pool({2, 7, 5, 3}, {});
  pool({1, 9, 8, 5}, {{3, 2}, {2, 1}, Padding::same()});
  pool({1, 6, 6, 8}, {{2, 2}, {3, 3}, {}});
  compare([](Place& place) {
    const Shape image{2, 5, 7, 37};
    const TensorView x = place.array(random(image, 1));
    const TensorView g = place.array(random({2, 37}, 2));
    global_max_pool2d_forward(place.context(), x, place.zeros({2, 37}));
    global_max_pool2d_backward(place.context(), g, x, place.zeros(image));
    global_average_pool2d_forward(place.context(), x, place.zeros({2, 37}));
    global_average_pool2d_backward(place.context(), g, place.zeros(image));
  });
}

struct PooledConvolution {
  Shape input;
  Shape filters;
  Conv2dOptions conv;
  Pool2dOptions pool;
  bool relu = true;
  bool flat = false;  // all elements of a window are the same
};

// On the CPU one op after the other; on the device the rows of its table that a network uses.
void compare_pooled(const PooledConvolution& c) {
  const Shape full = conv2d_output_shape(c.input, c.filters, c.conv);
  const Shape output = pool2d_output_shape(full, c.pool);
  const convec::Conv2dProblem conv = convec::make_conv2d_problem(c.input, c.filters, c.conv);
  const convec::Pool2dProblem pool = convec::make_pool2d_problem(full, c.pool);
  compare([&](Place& place) {
    const Context context = place.context();
    const TensorView x = place.array(c.flat ? Tensor(c.input) : random(c.input, 1));
    const TensorView w = place.array(random(c.filters, 2));
    const TensorView b = place.array(random({c.filters[3]}, 3, -0.5F, 1.0F));
    const TensorView g = place.array(random(output, 4));
    const TensorView y = place.zeros(output);
    const TensorView dx = place.zeros(c.input);
    const TensorView dw = place.zeros(c.filters);
    const TensorView db = place.zeros({c.filters[3]});
    if (context.device.type == DeviceType::cpu) {
      const Activation activation = c.relu ? Activation::relu : Activation::linear;
      Tensor unpooled(full);
      Tensor gradient(full);
      conv2d_forward(context, x, w, b, c.conv, activation, unpooled.view());
      max_pool2d_forward(context, unpooled.view(), c.pool, y);
      max_pool2d_backward(context, g, unpooled.view(), c.pool, gradient.view());
      activation_backward(context, activation, gradient.view(), unpooled.view(), gradient.view());
      conv2d_backward_input(context, gradient.view(), w, c.conv, dx);
      conv2d_backward_filters(context, x, gradient.view(), c.conv, dw, db);
      return;
    }
    const TensorView argmax = place.array(Tensor(output, DType::uint8));
    auto* positions = static_cast<std::uint8_t*>(argmax.data);
    const auto floats = [](const TensorView& view) { return static_cast<float*>(view.data); };
    const convec::OpTable& table = convec::op_table(cuda);
    CHECK(table.conv2d_max_pool2d_fusible(conv, pool));
    table.conv2d_max_pool2d_forward(context, conv, pool, floats(x), floats(w), nullptr, floats(b), c.relu, floats(y),
                                    nullptr);
    table.conv2d_max_pool2d_forward(context, conv, pool, floats(x), floats(w), nullptr, floats(b), c.relu, floats(y),
                                    positions);
    table.conv2d_max_pool2d_backward(context, conv, pool, floats(x), floats(w), c.relu, floats(y), positions, floats(g),
                                     floats(dx), floats(dw), floats(db));
  });
}

TEST(convolutions_with_pooling) {
  const Pool2dOptions two{};
  for (const bool fused : {true, false}) {
    convec::cuda::fuse_pooling(fused);
    // Short sums; rows and columns that no window takes, filters that are no multiple of four or 32.
    compare_pooled({{2, 9, 8, 1}, {3, 3, 1, 5}, {}, two});
    compare_pooled({{2, 8, 7, 3}, {3, 3, 3, 36}, {{1, 1}, Padding::same(), {1, 1}}, two, false});
    compare_pooled({{1, 11, 10, 1}, {5, 4, 1, 4}, {{2, 1}, Padding::same(), {1, 2}}, two});
    compare_pooled({{2, 6, 6, 1}, {3, 3, 1, 4}, {}, two, true, true});
    // Long sums: small, medium and large tiles.
    compare_pooled({{2, 8, 7, 5}, {3, 3, 5, 6}, {}, two});
    compare_pooled({{1, 13, 14, 4}, {3, 3, 4, 36}, {}, two, false});
    compare_pooled({{1, 19, 20, 4}, {3, 3, 4, 68}, {}, two});
    compare_pooled({{1, 6, 8, 4}, {3, 3, 4, 4}, {}, two, true, true});
    // Windows of other kinds.
    compare_pooled({{2, 9, 8, 1}, {3, 3, 1, 5}, {}, {{2, 2}, {2, 2}, Padding::same()}});
    compare_pooled({{1, 11, 10, 2}, {2, 2, 2, 8}, {}, {{3, 2}, {3, 3}, {}}});
    compare_pooled({{1, 10, 10, 5}, {3, 3, 5, 3}, {}, {{3, 3}, {3, 3}, Padding::same()}});
  }
  CHECK(!convec::cuda::fuse_pooling(true));
}

TEST(elements_and_rows) {
  for (int kind = 0; kind <= static_cast<int>(Activation::softplus); ++kind)
    for (const int64_t size : {1, 4, 1027})
      compare([=](Place& place) {
        const auto activation = static_cast<Activation>(kind);
        const TensorView x = place.array(random({size}, 1, -5.0F, 5.0F));
        const TensorView g = place.array(random({size}, 2));
        activation_forward(place.context(), activation, x, place.zeros({size}));
        activation_backward(place.context(), activation, g, x, place.zeros({size}));
      });
  for (const int64_t classes : {1, 10, 33, 70})
    compare([=](Place& place) {
      const TensorView x = place.array(random({11, classes}, 1, -4.0F, 4.0F));
      const TensorView g = place.array(random({11, classes}, 2));
      const TensorView y = place.zeros({11, classes});
      softmax_forward(place.context(), x, y);
      softmax_backward(place.context(), g, y, place.zeros({11, classes}));
      dropout(place.context(), 0.3F, 5, 9, x, place.zeros({11, classes}));
      rescale(place.context(), 0.5F, 2.0F, x, place.zeros({11, classes}));
    });
}

TEST(losses_and_metrics) {
  for (const int64_t classes : {1, 10, 40})
    for (const bool logits : {true, false})
      for (const bool distribution : {true, false})
        for (const float smoothing : {0.0F, 0.1F})
          compare([=](Place& place) {
            const Shape shape{9, classes};
            const TensorView x = place.array(random(shape, 1, logits ? -3.0F : 0.05F, logits ? 3.0F : 0.9F));
            const TensorView t = place.array(distribution ? random(shape, 2, 0.0F, 1.0F) : labels(9, classes));
            const TensorView g = place.array(random({9}, 3));
            softmax_cross_entropy_forward(place.context(), x, t, {logits, smoothing}, place.zeros({9}));
            softmax_cross_entropy_backward(place.context(), g, x, t, {logits, smoothing}, place.zeros(shape));
            metric_forward(place.context(),
                           {distribution ? convec::Metric::top_k_categorical_accuracy
                                         : convec::Metric::sparse_categorical_accuracy,
                            2},
                           x, t, place.zeros({9}));
          });
  for (int kind = 0; kind <= static_cast<int>(convec::PointwiseLoss::huber); ++kind)
    compare([=](Place& place) {
      const convec::PointwiseLossOptions options{static_cast<convec::PointwiseLoss>(kind), kind == 0, 0.05F};
      const TensorView p = place.array(random({7, 35}, 1, -2.0F, 2.0F));
      const TensorView t = place.array(random({7, 35}, 2, 0.0F, 1.0F));
      const TensorView g = place.array(random({7}, 3));
      pointwise_loss_forward(place.context(), options, p, t, place.zeros({7}));
      pointwise_loss_backward(place.context(), options, g, p, t, place.zeros({7, 35}));
    });
}

TEST(bad_labels_are_found) {
  OnDevice device(0);
  const TensorView x = device.array(random({6, 4}, 1));
  Tensor wrong = labels(6, 4);
  static_cast<int64_t*>(wrong.view().data)[3] = 4;
  static_cast<int64_t*>(wrong.view().data)[5] = -1;
  const TensorView t = device.array(wrong);
  const TensorView losses = device.zeros({6});
  CHECK_THROWS(softmax_cross_entropy_forward(device.context(), x, t, {}, losses), convec::ValueError, "labels[3]");
}

TEST(batch_normalisation) {
  for (const Shape& shape : {Shape{3, 4, 5, 8}, Shape{300, 37}, Shape{5, 3}})
    compare([&](Place& place) {
      const Shape channels{shape[shape.rank() - 1]};
      const TensorView x = place.array(random(shape, 1, -1.0F, 3.0F));
      const TensorView g = place.array(random(shape, 2));
      const TensorView gamma = place.array(random(channels, 3));
      const TensorView beta = place.array(random(channels, 4));
      const TensorView mean = place.array(random(channels, 5));
      const TensorView variance = place.array(random(channels, 6, 0.5F, 1.5F));
      const TensorView batch_mean = place.zeros(channels);
      const TensorView inverse = place.zeros(channels);
      batch_norm_forward_inference(place.context(), x, gamma, beta, mean, variance, 1e-3F, place.zeros(shape));
      batch_norm_forward_training(place.context(), x, gamma, beta, 0.9F, 1e-3F, mean, variance, batch_mean, inverse,
                                  place.zeros(shape));
      batch_norm_backward(place.context(), g, x, gamma, batch_mean, inverse, place.zeros(shape), place.zeros(channels),
                          place.zeros(channels));
    });
}

TEST(optimizers) {
  for (int kind = 0; kind <= static_cast<int>(convec::Optimizer::adadelta); ++kind)
    for (const int64_t size : {3, 1026})
      compare([=](Place& place) {
        auto options = convec::OptimizerOptions::defaults(static_cast<convec::Optimizer>(kind));
        options.momentum = 0.9F;
        options.amsgrad = options.centered = true;
        options.clipvalue = 0.8F;
        std::vector<TensorView> slots;
        for (int slot = 0; slot < optimizer_slot_count(options); ++slot)
          slots.push_back(place.array(random({size}, 10 + static_cast<std::uint32_t>(slot), 0.4F, 0.6F)));
        const TensorView p = place.array(random({size}, 1));
        const TensorView g = place.array(random({size}, 2));
        optimizer_step(place.context(), options, 2, p, g, slots.data(), 0.5F);
        const double sum = sum_of_squares(place.context(), g);
        Tensor found({1});
        found.f32()[0] = static_cast<float>(sum);
        static_cast<void>(place.array(found));
      });
}

// A device that runs out of memory, or dies within an epoch, leaves an exception and nothing else.
TEST(failures_of_the_device) {
  convec::Network network(
      {convec::FlattenLayer{}, convec::DenseLayer{8, true, Activation::relu}, convec::DenseLayer{3}}, {4, 4, 1}, 1);
  convec::LossOptions loss;
  loss.from_logits = true;
  network.compile(loss, convec::OptimizerOptions::defaults(convec::Optimizer::adam), {});
  convec::emulation::set_memory(2000);
  CHECK_THROWS(network.to(cuda), convec::DeviceError, "out of memory on cuda:0");
  CHECK(network.device() == Device{});
  convec::emulation::set_memory(std::size_t{1} << 30U);
  network.to(cuda);
  const Tensor x = random({20, 4, 4, 1}, 1);
  const Tensor y = labels(20, 3);
  convec::EpochOptions options;
  options.batch_size = 4;
  static_cast<void>(network.train_epoch({x.view(), y.view(), {}}, options));
  // 5 steps and 16 bytes a sample are fewer than the memory that is left: the data go there in pieces.
  convec::Network host({convec::FlattenLayer{}, convec::DenseLayer{8, true, Activation::relu}, convec::DenseLayer{3}},
                       {4, 4, 1}, 1);
  host.compile(loss, convec::OptimizerOptions::defaults(convec::Optimizer::adam), {});
  static_cast<void>(host.train_epoch({x.view(), y.view(), {}}, options));
  CHECK_NEAR(network.parameter(0).f32()[5], host.parameter(0).f32()[5], 1e-5);
  convec::emulation::lose_device_after(3);
  CHECK_THROWS(network.train_epoch({x.view(), y.view(), {}}, options), convec::DeviceError, "");
  cudaDeviceReset();
}

TEST(data_in_pieces) {
  const auto make = [] {
    convec::Network network(
        {convec::FlattenLayer{}, convec::DenseLayer{5, true, Activation::relu}, convec::DenseLayer{3}}, {16, 16, 1}, 1);
    convec::LossOptions loss;
    loss.from_logits = true;
    network.compile(loss, convec::OptimizerOptions::defaults(convec::Optimizer::sgd),
                    {{convec::MetricOptions{}, false}});
    return network;
  };
  const Tensor x = random({70, 16, 16, 1}, 1);
  const Tensor y = labels(70, 3);
  const Tensor weights = random({70}, 2, 0.5F, 1.5F);
  std::vector<int64_t> order;
  for (int64_t i = 0; i < 70; ++i) order.push_back(i * 37 % 70);
  convec::EpochOptions options;
  options.batch_size = 8;
  options.order = order.data();
  options.samples = 70;
  convec::Network host = make();
  convec::Network device = make();
  device.to(cuda);
  const convec::Totals expected = host.train_epoch({x.view(), y.view(), weights.view()}, options);
  const Tensor few = random({8, 16, 16, 1}, 3);
  const Tensor few_labels = labels(8, 3);
  static_cast<void>(device.evaluate({few.view(), few_labels.view(), {}}, {}));  // takes the scratch memory
  // The data of 70 samples take 72 kB, of which half of what is free may be used.
  convec::emulation::set_memory(convec::emulation::memory_in_use() + 100000);
  const convec::Totals found = device.train_epoch({x.view(), y.view(), weights.view()}, options);
  convec::emulation::set_memory(std::size_t{1} << 30U);
  CHECK_NEAR(found.loss, expected.loss, 1e-5);
  CHECK_NEAR(found.metrics[0], expected.metrics[0], 1e-9);
  CHECK_EQ(found.batches, expected.batches);
  for (int64_t i = 0; i < 256 * 5; ++i) CHECK_NEAR(device.parameter(0).f32()[i], host.parameter(0).f32()[i], 1e-5);
}

}  // namespace

int main(int argc, char** argv) {
  convec::cuda::load();
  return convec::test::run(argc, argv);
}
