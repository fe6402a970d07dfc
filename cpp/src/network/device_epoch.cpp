#include "network/device_epoch.hpp"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include <convec/error.hpp>

namespace convec {

namespace {

std::size_t row_bytes(const ConstTensorView& view) {
  return view.present() ? static_cast<std::size_t>(view.shape.without_batch().size()) * size_of(view.dtype) : 0;
}

// Grows only: what a graph was captured with stays where it is as long as it fits.
void reserve(Buffer& buffer, Device device, std::size_t bytes) {
  if (buffer.bytes() >= bytes && buffer.data() != nullptr) return;
  buffer = Buffer();
  buffer = Buffer(device, {static_cast<std::int64_t>(std::max<std::size_t>(bytes, 1))}, DType::uint8);
}

}  // namespace

// When the totals are to be seen. Processes that take the same steps agree on the next one to stop at, by what a step
// takes them in the mean.
class ProgressTimes {
 public:
  explicit ProgressTimes(double interval) : interval_(interval) {}

  bool due() const { return seconds() >= interval_; }
  bool due(std::int64_t batches) const { return batches >= next_; }
  void restart() { start_ = Clock::now(); }
  void agree(std::int64_t batches, const std::function<void(std::vector<double>&)>& add_up) {
    std::vector<double> numbers{seconds() / static_cast<double>(batches - last_), interval_};
    add_up(numbers);
    const double steps = numbers[1] / std::max(numbers[0], 1e-9);
    last_ = batches;
    next_ = batches + static_cast<std::int64_t>(std::clamp(steps, 1.0, 1e9));
    restart();
  }

 private:
  using Clock = std::chrono::steady_clock;
  double seconds() const { return std::chrono::duration<double>(Clock::now() - start_).count(); }

  Clock::time_point start_ = Clock::now();
  double interval_;
  std::int64_t last_ = 0;
  std::int64_t next_ = 1;
};

// Host memory that the device reads at full speed.
struct DeviceEpoch::Pinned {
  Pinned(Backend& owner_, std::size_t bytes_) : owner(owner_), bytes(bytes_), data(owner_.allocate_pinned(bytes_)) {}
  ~Pinned() { owner.release_pinned(data); }
  Pinned(const Pinned&) = delete;
  Pinned& operator=(const Pinned&) = delete;

  Backend& owner;
  std::size_t bytes;
  void* data;
};

DeviceEpoch::DeviceEpoch(Device device) : context_{device, nullptr} {
  reserve(source_, device, sizeof(EpochSource));
  reserve(state_, device, sizeof(StepState));
  context_.stream = backend(device).create_stream(device);
}

DeviceEpoch::~DeviceEpoch() {
  Backend* const owner = find_backend(context_.device.type);
  if (owner != nullptr) owner->destroy_stream(context_.device, context_.stream);
}

void DeviceEpoch::upload(Buffer& to, const void* host, std::size_t bytes) {
  reserve(to, context_.device, bytes);
  backend(context_.device).copy_in(context_, to.data(), host, bytes);
}

void DeviceEpoch::upload_rows(Buffer& to, const ConstTensorView& from, const std::int64_t* order, std::int64_t begin,
                              std::int64_t count) {
  const std::size_t row = row_bytes(from);
  const auto* source = static_cast<const std::byte*>(from.data);
  const std::size_t bytes = row * static_cast<std::size_t>(count);
  if (order == nullptr) {
    upload(to, source + static_cast<std::size_t>(begin) * row, bytes);
    return;
  }
  Backend& owner = backend(context_.device);
  // What was copied from the staging memory before has to be gone.
  owner.wait(context_);
  if (!staging_ || staging_->bytes < bytes) {
    staging_.reset();
    staging_ = std::make_unique<Pinned>(owner, bytes);
  }
  for (std::int64_t i = 0; i < count; ++i)
    std::memcpy(static_cast<std::byte*>(staging_->data) + static_cast<std::size_t>(i) * row,
                source + static_cast<std::size_t>(order[begin + i]) * row, row);
  upload(to, staging_->data, bytes);
}

void DeviceEpoch::start(const EpochSource& source, const StepState& state) {
  Backend& owner = backend(context_.device);
  owner.copy_in(context_, source_.data(), &source, sizeof source);
  owner.copy_in(context_, state_.data(), &state, sizeof state);
}

void DeviceEpoch::launch(const Plan& plan, const StepSize& size) {
  const auto run = [&](const std::function<void(std::size_t)>& segment) {
    for (std::size_t index = 0; index < plan.segments; ++index) {
      segment(index);
      if (plan.between) plan.between(index);
    }
  };
  const auto as_launched = [&](std::size_t index) { plan.step(size, index); };
  // Without samples there is too little to do to be worth it.
  if (size.own == 0) {
    run(as_launched);
    return;
  }
  const auto key = std::tuple{plan.training, size.own, size.all};
  const auto found = graphs_.find(key);
  if (found == graphs_.end()) {
    // The first step runs as it is launched, and takes all the scratch memory there will be; the second is captured.
    run(as_launched);
    graphs_.emplace(key, std::vector<std::unique_ptr<StepGraph>>());
    return;
  }
  if (!found->second.empty()) {
    run([&](std::size_t index) { found->second[index]->replay(context_); });
    return;
  }
  std::vector<std::unique_ptr<StepGraph>> captured;
  run([&](std::size_t index) {
    captured.push_back(backend(context_.device).capture(context_, [&] { plan.step(size, index); }));
    captured.back()->replay(context_);
  });
  found->second = std::move(captured);
}

void DeviceEpoch::wait(const Plan& plan) {
  if (plan.synchronize) plan.synchronize();
  backend(context_.device).wait(context_);
}

Totals DeviceEpoch::read(const Plan& plan, std::int64_t samples, std::int64_t batches, bool together) {
  std::vector<double> sums(2 * (1 + plan.metrics));
  Backend& owner = backend(context_.device);
  wait(plan);
  owner.copy_out(context_, sums.data(), totals_.data(), sums.size() * sizeof(double));
  owner.wait(context_);
  sums.push_back(static_cast<double>(samples));
  if (together && plan.add_up) plan.add_up(sums);
  Totals totals;
  totals.samples = static_cast<std::int64_t>(sums.back());
  totals.batches = batches;
  totals.loss = totals.samples == 0 ? 0.0 : sums[0] / sums.back();
  for (std::size_t metric = 1; metric <= plan.metrics; ++metric)
    totals.metrics.push_back(sums[2 * metric + 1] == 0.0 ? 0.0 : sums[2 * metric] / sums[2 * metric + 1]);
  return totals;
}

Totals DeviceEpoch::run(const Dataset& data, const EpochOptions& options, const Plan& plan) {
  Backend& owner = backend(context_.device);
  const bool on_device = data.inputs.device.type != DeviceType::cpu;
  const std::size_t bytes_of_sample = row_bytes(data.inputs) + row_bytes(data.targets) + row_bytes(data.sample_weights);
  reserve(totals_, context_.device, 2 * (1 + plan.metrics) * sizeof(double));
  owner.clear(context_, totals_.data(), 2 * (1 + plan.metrics) * sizeof(double));
  if (options.learning_rates != nullptr) {
    for (std::int64_t step = 0; step < plan.steps; ++step)
      if (!(options.learning_rates[step] >= 0.0F) || std::isinf(options.learning_rates[step]))
        throw ValueError("learning_rates[" + std::to_string(step) + "] is " +
                         std::to_string(options.learning_rates[step]) + ", but must be finite and not negative");
    upload(rates_, options.learning_rates, static_cast<std::size_t>(plan.steps) * sizeof(float));
  }

  // All at once where that leaves half of what is free, and what was kept from the epoch before counts as free.
  const std::size_t room = owner.free_memory(context_.device) / 2 + inputs_.bytes() + targets_.bytes();
  const std::int64_t rows = data.inputs.shape[0];
  const bool whole = on_device || bytes_of_sample * static_cast<std::size_t>(rows) <= room;
  constexpr std::size_t piece_bytes = std::size_t{64} << 20U;
  const std::int64_t piece_steps = std::max<std::int64_t>(
      1, static_cast<std::int64_t>(std::min(piece_bytes, room) / std::max<std::size_t>(bytes_of_sample, 1)) /
             std::max<std::int64_t>(plan.batch_size, 1));

  ProgressTimes times(options.progress_interval);
  std::int64_t batches = 0;
  std::int64_t done = 0;
  while (batches < plan.steps) {
    const std::int64_t end = whole ? plan.steps : std::min(plan.steps, batches + piece_steps);
    const std::int64_t begin = std::min(batches * plan.batch_size, plan.samples);
    const std::int64_t count =
        (end == plan.steps ? plan.samples : std::min(end * plan.batch_size, plan.samples)) - begin;
    EpochSource source;
    if (on_device) {
      source.inputs = data.inputs.data;
      source.targets = data.targets.data;
      source.weights = data.sample_weights.f32();
    } else {
      const std::int64_t* order = whole ? nullptr : options.order;
      const std::int64_t first = whole ? 0 : begin;
      const std::int64_t uploaded = whole ? rows : count;
      upload_rows(inputs_, data.inputs, order, first, uploaded);
      upload_rows(targets_, data.targets, order, first, uploaded);
      if (data.sample_weights.present()) upload_rows(weights_, data.sample_weights, order, first, uploaded);
      source.inputs = inputs_.data();
      source.targets = targets_.data();
      source.weights = data.sample_weights.present() ? weights_.f32() : nullptr;
    }
    if (whole && options.order != nullptr) {
      upload(order_, options.order, static_cast<std::size_t>(plan.samples) * sizeof(std::int64_t));
      source.order = static_cast<const std::int64_t*>(order_.data());
    }
    if (options.learning_rates != nullptr) source.learning_rates = rates_.f32() + batches;
    float rate = plan.learning_rate();
    StepState state;
    state.iteration = plan.first_iteration + batches;
    state.learning_rate = rate;
    start(source, state);

    while (batches < end) {
      const StepSize size = plan.size(batches);
      launch(plan, size);
      plan.stepped();
      done += size.own;
      ++batches;
      if (batches == plan.steps) break;
      if (!(plan.in_step ? times.due(batches) : options.progress && times.due())) continue;
      const Totals totals = read(plan, done, batches, plan.in_step);
      if (plan.in_step) times.agree(batches, plan.add_up);
      if (!options.progress) continue;
      options.progress(totals);
      times.restart();
      if (options.learning_rates == nullptr && plan.learning_rate() != rate) {
        rate = plan.learning_rate();
        owner.copy_in(context_, &static_cast<StepState*>(state_.data())->learning_rate, &rate, sizeof rate);
      }
    }
    // The next piece takes the place of this one.
    if (batches < plan.steps) wait(plan);
  }
  const Totals totals = read(plan, done, plan.batches, true);
  if (options.progress) options.progress(totals);
  return totals;
}

}  // namespace convec
