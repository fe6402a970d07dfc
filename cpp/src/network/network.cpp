#include <convec/network.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>
#include <string>
#include <tuple>
#include <utility>

#include <convec/cpu_features.hpp>
#include <convec/error.hpp>
#include <convec/random.hpp>

#include "backend.hpp"
#include "network/buffer.hpp"
#include "network/device_epoch.hpp"
#include "network/node.hpp"
#include "network/objective.hpp"
#include "network/parameters.hpp"
#include "ops/check.hpp"
#include "ops/optimizer.hpp"

namespace convec {

namespace {

// Memory of one pass over the plan: each node's output and state, and two gradients.
struct Workspace {
  std::int64_t batch = 0;
  bool training = false;
  Buffer input;
  std::vector<Buffer> outputs;
  std::vector<Buffer> states;
  Buffer gradients[2];
  Buffer losses;
  Buffer loss_gradients;
  Buffer values;
  // A batch gathered from a dataset.
  Buffer targets;
  Buffer weights;
  // What forward() of each node returned, after the input itself.
  std::vector<const float*> activations;
};

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }
  void restart() { start_ = std::chrono::steady_clock::now(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

// Rows order[begin], ... (null: begin, begin + 1, ...) of an array: the rows themselves where they lie together, else a
// copy in `to`, which may be float32 for uint8 rows.
const void* gather_rows(const ConstTensorView& from, const std::int64_t* order, std::int64_t begin, std::int64_t count,
                        Buffer& to) {
  const std::int64_t size = from.shape.without_batch().size();
  const std::size_t bytes = static_cast<std::size_t>(size) * size_of(from.dtype);
  const auto* source = static_cast<const std::byte*>(from.data);
  const bool widen = from.dtype == DType::uint8 && to.dtype() == DType::float32;
  if (order == nullptr && !widen) return source + static_cast<std::size_t>(begin) * bytes;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = order == nullptr ? begin + i : order[begin + i];
    const std::byte* read = source + static_cast<std::size_t>(row) * bytes;
    if (widen) {
      float* write = to.f32() + i * size;
      for (std::int64_t k = 0; k < size; ++k) write[k] = static_cast<float>(std::to_integer<int>(read[k]));
    } else {
      std::memcpy(static_cast<std::byte*>(to.data()) + static_cast<std::size_t>(i) * bytes, read, bytes);
    }
  }
  return to.data();
}

}  // namespace

struct Network::Impl {
  std::vector<Layer> layers;
  Shape input_shape;
  Parameters parameters;
  Plan plan;
  Context context;
  std::uint64_t seed = 0;
  NetworkNotes notes;

  bool compiled = false;
  Objective objective;
  OptimizerOptions optimizer;
  std::int64_t iterations = 0;
  DataParallel parallel;

  // Null on the CPU. One call at a time runs on another device.
  mutable std::unique_ptr<DeviceEpoch> device_epoch;
  mutable std::mutex device_mutex;

  // Weights in the layout that inference prefers are remade after a change of weights or of what the layout depends on.
  mutable std::mutex prepare_mutex;
  mutable bool prepared = false;
  mutable std::pair<IsaLevel, bool> prepared_for;

  // Workspaces not in use; predict() may run in several threads.
  mutable std::mutex workspace_mutex;
  mutable std::vector<std::unique_ptr<Workspace>> workspaces;

  const Shape& output_shape() const { return plan.shapes.empty() ? input_shape : plan.shapes.back(); }

  // ---- Memory ----

  void reserve(Workspace& w, std::int64_t batch, bool training) const {
    if (w.batch >= batch && (w.training || !training)) return;
    w.batch = std::max(batch, w.batch);
    w.training = w.training || training;
    if (device_epoch) device_epoch->forget_graphs();
    const Device device = context.device;
    w.input = Buffer(device, input_shape.with_batch(w.batch));
    w.outputs.clear();
    w.states.clear();
    std::int64_t largest = input_shape.size();
    // Without a backward pass two buffers are enough; node i writes outputs[i % 2].
    std::int64_t largest_output = 1;
    for (const auto& node : plan.nodes) largest_output = std::max(largest_output, node->output_size());
    for (const auto& node : plan.nodes) {
      largest = std::max({largest, node->input_size(), node->output_size()});
      if (w.training)
        w.outputs.emplace_back(device, Shape{w.batch, node->output_size()});
      else if (w.outputs.size() < 2)
        w.outputs.emplace_back(device, Shape{w.batch, largest_output});
      w.states.emplace_back(device, Shape{node->state_size(w.batch)});
    }
    if (w.training)
      for (Buffer& gradient : w.gradients) gradient = Buffer(device, {w.batch, largest});
    w.losses = Buffer(device, {w.batch});
    w.loss_gradients = Buffer(device, {w.batch});
    w.values = Buffer(device, {w.batch});
    w.weights = Buffer(device, {w.batch});
    w.activations.assign(plan.nodes.size() + 1, nullptr);
  }

  // Lends a workspace for the lifetime of the object.
  class Lease {
   public:
    Lease(const Impl& impl, std::int64_t batch, bool training) : impl_(impl) {
      {
        const std::lock_guard<std::mutex> lock(impl.workspace_mutex);
        if (!impl.workspaces.empty()) {
          workspace_ = std::move(impl.workspaces.back());
          impl.workspaces.pop_back();
        }
      }
      if (!workspace_) workspace_ = std::make_unique<Workspace>();
      impl.reserve(*workspace_, batch, training);
    }
    ~Lease() {
      const std::lock_guard<std::mutex> lock(impl_.workspace_mutex);
      impl_.workspaces.push_back(std::move(workspace_));
    }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    Workspace& operator*() const { return *workspace_; }

   private:
    const Impl& impl_;
    std::unique_ptr<Workspace> workspace_;
  };

  void prepare() const {
    if (device_epoch) return;
    const std::lock_guard<std::mutex> lock(prepare_mutex);
    const std::pair<IsaLevel, bool> now{current_isa(), winograd()};
    if (prepared && prepared_for == now) return;
    for (const auto& node : plan.nodes) node->prepare();
    prepared = true;
    prepared_for = now;
  }

  void weights_changed() { prepared = false; }

  // ---- Passes ----

  Pass make_pass(std::int64_t batch, bool training) const {
    return {context,
            batch,
            training,
            seed,
            static_cast<std::uint64_t>(iterations),
            device_epoch ? device_epoch->state() : nullptr,
            static_cast<std::uint64_t>(parallel.rank)};
  }

  // What a captured step was made with has changed.
  void settings_changed() const {
    if (device_epoch) device_epoch->forget_graphs();
  }

  // Runs nodes [0, count); w.activations[i + 1] is node i's output.
  void forward(Workspace& w, const Pass& pass, const float* input, std::size_t count) const {
    w.activations[0] = input;
    for (std::size_t i = 0; i < count; ++i) {
      float* output = w.outputs[w.training ? i : i % 2].f32();
      // A node that passes its input on leaves it in the other buffer: the next one must not overwrite it.
      if (!w.training && w.activations[i] == output) output = w.outputs[(i + 1) % 2].f32();
      w.activations[i + 1] = plan.nodes[i]->forward(pass, w.activations[i], output, w.states[i].f32());
    }
  }

  // The first of `count` nodes with something to train: below it nobody needs a gradient.
  std::size_t first_trained(std::size_t count) const {
    for (std::size_t i = 0; i < count; ++i)
      if (plan.nodes[i]->has_parameters() && parameters.layer_trainable(plan.nodes[i]->layer())) return i;
    return count;
  }

  // Where a backward pass stands: the gradient of the output of node `next - 1` is in `gradient`.
  struct Descent {
    std::size_t next = 0;
    float* gradient = nullptr;
    float* other = nullptr;
  };

  // From the gradient of node `count - 1`'s output in w.gradients[0].
  static Descent descend_from(const Workspace& w, std::size_t count) {
    return {count, w.gradients[0].f32(), w.gradients[1].f32()};
  }

  // Backward through the nodes down to `stop`.
  void backward(Workspace& w, const Pass& pass, Descent& descent, std::size_t stop) {
    const std::size_t first = first_trained(loss_nodes());
    for (; descent.next > stop; --descent.next) {
      const std::size_t i = descent.next - 1;
      float* written = plan.nodes[i]->backward(pass, w.activations[i], w.activations[i + 1], w.states[i].f32(),
                                               descent.gradient, i == first ? nullptr : descent.other);
      if (written == descent.other) std::swap(descent.gradient, descent.other);
    }
  }

  void backward(Workspace& w, const Pass& pass, std::size_t count) {
    Descent descent = descend_from(w, count);
    backward(w, pass, descent, first_trained(count));
  }

  // ---- Data ----

  void check_inputs(const ConstTensorView& inputs) const {
    if (inputs.device.type != DeviceType::cpu && inputs.device != context.device)
      throw DeviceError("inputs is on " + to_string(inputs.device) + ", but the network is on " +
                        to_string(context.device) + "; move one of them");
    if (inputs.dtype != DType::float32 && inputs.dtype != DType::uint8)
      throw DTypeError(std::string("inputs is ") + name_of(inputs.dtype) +
                       ", but must be float32 or uint8; convert it, e.g. inputs.astype('float32')");
    if (inputs.shape.rank() != input_shape.rank() + 1 || inputs.shape.without_batch() != input_shape)
      throw ShapeError("inputs has shape " + to_string(inputs.shape) + ", but the network expects (n, " +
                       to_string(input_shape).substr(1));
  }

  // All checks of an epoch, before anything is written. Returns the number of samples to use.
  std::int64_t check_data(const Dataset& data, const EpochOptions& options) const {
    if (!compiled) throw ValueError("the network is not compiled: call compile() first");
    check_inputs(data.inputs);
    const std::int64_t rows = data.inputs.shape[0];
    if (data.targets.device != data.inputs.device ||
        (data.sample_weights.present() && data.sample_weights.device != data.inputs.device))
      throw DeviceError("inputs is on " + to_string(data.inputs.device) + ", but targets is on " +
                        to_string(data.targets.device) +
                        "; inputs, targets and sample weights must be on the same device");
    objective.check_targets(data.targets, rows);
    if (data.sample_weights.present()) {
      check::float32(data.sample_weights, "sample_weights");
      check::shape(data.sample_weights, "sample_weights", {rows}, "one number a sample");
    }
    const std::int64_t samples = check_order(options, rows);
    if (samples == 0) throw ValueError("inputs is empty: there is nothing to train on or to evaluate");
    return samples;
  }

  static std::int64_t check_order(const EpochOptions& options, std::int64_t rows) {
    check::at_least(options.batch_size, 1, "batch_size");
    const std::int64_t samples = options.samples < 0 ? rows : options.samples;
    if (options.order == nullptr) {
      if (samples > rows)
        throw ValueError("samples is " + std::to_string(samples) + ", but inputs holds " + std::to_string(rows));
    } else {
      for (std::int64_t i = 0; i < samples; ++i)
        if (options.order[i] < 0 || options.order[i] >= rows)
          throw ValueError("order[" + std::to_string(i) + "] is " + std::to_string(options.order[i]) +
                           ", but must be in [0, " + std::to_string(rows) + ")");
    }
    return samples;
  }

  struct Batch {
    std::int64_t size;
    std::int64_t mean_over;  // samples of the step, those of other processes included
    const float* inputs;
    ConstTensorView targets;
    const float* weights;  // or null
  };

  void reserve_targets(Workspace& w, const Dataset& data) const {
    const Shape shape = data.targets.shape.without_batch().with_batch(w.batch);
    if (w.targets.data() != nullptr && w.targets.dtype() == data.targets.dtype && w.targets.shape() == shape) return;
    settings_changed();
    w.targets = Buffer(context.device, shape, data.targets.dtype);
  }

  Batch take(Workspace& w, const Dataset& data, const std::int64_t* order, std::int64_t begin,
             std::int64_t count) const {
    Batch batch{};
    batch.size = count;
    batch.mean_over = count;
    batch.inputs = static_cast<const float*>(gather_rows(data.inputs, order, begin, count, w.input));
    const Shape row = data.targets.shape.without_batch();
    reserve_targets(w, data);
    batch.targets = {gather_rows(data.targets, order, begin, count, w.targets), data.targets.dtype,
                     row.with_batch(count)};
    if (data.sample_weights.present())
      batch.weights = static_cast<const float*>(gather_rows(data.sample_weights, order, begin, count, w.weights));
    return batch;
  }

  // ---- Steps ----

  // Forward pass, loss and metrics; the gradient of the output into w.gradients[0] when training.
  // Returns the number of nodes a backward pass goes through.
  std::size_t run_batch(Workspace& w, const Batch& batch, bool training, Accumulator& totals) const {
    const auto [last, measured] = run_forward(w, batch, training);
    objective.evaluate(context, measured, scratch_of(w), training ? w.gradients[0].f32() : nullptr, totals);
    return last;
  }

  // The number of nodes up to where the loss is taken from.
  std::size_t loss_nodes() const { return plan.nodes.size() - (objective.takes_logits() ? 1 : 0); }

  // Returns that number, and what it and the metrics see.
  std::pair<std::size_t, Objective::Batch> run_forward(Workspace& w, const Batch& batch, bool training) const {
    const std::size_t nodes = plan.nodes.size();
    const std::size_t last = loss_nodes();
    const std::size_t run = objective.needs_probabilities() ? nodes : last;
    forward(w, make_pass(batch.size, training), batch.inputs, run);
    return {last, {batch.size, batch.mean_over, w.activations[last], w.activations[run], batch.targets, batch.weights}};
  }

  static Objective::Scratch scratch_of(const Workspace& w) {
    return {w.losses.f32(), w.loss_gradients.f32(), w.values.f32()};
  }

  void train(Workspace& w, const Batch& batch, Accumulator& totals) {
    const std::size_t last = run_batch(w, batch, true, totals);
    backward(w, make_pass(batch.size, true), last);
    ++iterations;
    parameters.step(context, optimizer, iterations);
    weights_changed();
  }

  // ---- With other processes ----

  bool in_parallel() const noexcept { return parallel.ranks > 1; }

  // One process's part of an epoch.
  struct Part {
    std::int64_t steps = 0;
    std::int64_t largest = 1;                                               // own samples of a step
    std::function<std::array<std::int64_t, 3>(std::int64_t step)> samples;  // first and number of the own; of all
  };

  // All processes tell each other how many samples they have, so that all take the same steps.
  Part split(std::int64_t samples, std::int64_t size) const {
    const auto ranks = static_cast<std::size_t>(parallel.ranks);
    const auto rank = static_cast<std::size_t>(parallel.rank);
    std::vector<double> counts(2 * ranks, 0.0);
    counts[rank] = static_cast<double>(samples);
    counts[ranks + rank] = static_cast<double>(size);
    parallel.all_reduce_totals(counts.data(), static_cast<std::int64_t>(counts.size()));
    Part part;
    if (parallel.sharded) {
      for (std::size_t i = 0; i < ranks; ++i)
        part.steps = std::max(part.steps, static_cast<std::int64_t>(std::ceil(counts[i] / counts[ranks + i])));
      part.largest = std::min(size, samples);
      part.samples = [counts, ranks, rank](std::int64_t step) {
        const auto of = [&](std::size_t i) {
          const double begin = std::min(counts[i], static_cast<double>(step) * counts[ranks + i]);
          return std::pair{begin, std::min(counts[i] - begin, counts[ranks + i])};
        };
        double all = 0.0;
        for (std::size_t i = 0; i < ranks; ++i) all += of(i).second;
        const auto [begin, count] = of(rank);
        return std::array{static_cast<std::int64_t>(begin), static_cast<std::int64_t>(count),
                          static_cast<std::int64_t>(all)};
      };
      return part;
    }
    for (std::size_t i = 0; i < ranks; ++i)
      if (counts[i] != counts[rank] || counts[ranks + i] != counts[ranks + rank])
        throw ValueError("rank " + std::to_string(rank) + " has " + std::to_string(samples) +
                         " samples and batch_size " + std::to_string(size) + ", but rank " + std::to_string(i) +
                         " has " + std::to_string(static_cast<std::int64_t>(counts[i])) + " and " +
                         std::to_string(static_cast<std::int64_t>(counts[ranks + i])) +
                         "; give all the same, or say that each has its own part of the data (sharded)");
    part.steps = (samples + size - 1) / size;
    part.largest = (std::min(size, samples) + parallel.ranks - 1) / parallel.ranks;
    part.samples = [this, samples, size](std::int64_t step) {
      const std::int64_t begin = step * size;
      const std::int64_t count = std::min(size, samples - begin);
      const std::int64_t first = count * parallel.rank / parallel.ranks;
      const std::int64_t last = count * (parallel.rank + 1) / parallel.ranks;
      return std::array{begin + first, last - first, count};
    };
    return part;
  }

  // What is sent after the backward pass through node `node`: numbers [begin, end) of the exchange.
  struct Piece {
    std::size_t node;
    std::int64_t begin;
    std::int64_t end;
  };

  std::vector<Piece> pieces() const {
    std::vector<Piece> found;
    std::int64_t unsent = parameters.exchange_size();
    const std::size_t last = loss_nodes();
    const std::size_t first = first_trained(last);
    for (std::size_t i = last; i-- > first;) {
      const std::int64_t begin = parameters.gradients_from(plan.nodes[i]->layer());
      if ((unsent - begin) * static_cast<std::int64_t>(sizeof(float)) < parallel.bucket_bytes) continue;
      found.push_back({i, begin, unsent});
      unsent = begin;
    }
    if (unsent > 0) found.push_back({first, 0, unsent});
    return found;
  }

  // A step of which this process has `batch`, or nothing where it is null, of `all` samples.
  void train_in_parallel(Workspace& w, const std::vector<Piece>& pieces, const Batch* batch, std::int64_t all,
                         Accumulator& totals) {
    const std::int64_t sums = Accumulator::sum_count(objective.metric_count());
    Accumulator own(objective.metric_count());
    Pass pass;
    Descent descent;
    if (batch == nullptr) {
      parameters.clear_gradients();
    } else {
      descent = descend_from(w, run_batch(w, *batch, true, own));
      pass = make_pass(batch->size, true);
    }
    own.write_sums(parameters.exchange_totals());
    parameters.write_statistics(sums, static_cast<float>(batch == nullptr ? 0 : batch->size) / static_cast<float>(all));
    for (const Piece& piece : pieces) {
      if (batch != nullptr) backward(w, pass, descent, piece.node);
      parallel.all_reduce(parameters.exchange() + piece.begin, piece.end - piece.begin);
    }
    if (parallel.wait) parallel.wait();
    totals.add_sums(parameters.exchange_totals(), 1);
    parameters.read_statistics(sums);
    ++iterations;
    parameters.step(context, optimizer, iterations);
    weights_changed();
  }

  static void check_rates(const EpochOptions& options, std::int64_t steps) {
    if (options.learning_rates != nullptr && options.learning_rate_count >= 0 && options.learning_rate_count < steps)
      throw ShapeError("learning_rates holds " + std::to_string(options.learning_rate_count) +
                       " numbers, but the epoch has " + std::to_string(steps) + " steps over all ranks");
  }

  Totals train_epoch_in_parallel(const Dataset& data, const EpochOptions& options) {
    const Part part = split(check_data(data, options), options.batch_size);
    check_rates(options, part.steps);
    parameters.begin_exchange(Accumulator::sum_count(objective.metric_count()));
    const std::vector<Piece> sent = pieces();
    const Lease lease(*this, part.largest, true);
    Accumulator totals(objective.metric_count());
    Stopwatch since_progress;
    for (std::int64_t step = 0; step < part.steps; ++step) {
      if (options.learning_rates != nullptr) optimizer.learning_rate = options.learning_rates[step];
      const auto [begin, count, all] = part.samples(step);
      if (count > 0) {
        Batch batch = take(*lease, data, options.order, begin, count);
        batch.mean_over = all;
        train_in_parallel(*lease, sent, &batch, all, totals);
      } else {
        train_in_parallel(*lease, sent, nullptr, all, totals);
      }
      if (!options.progress) continue;
      if (step + 1 == part.steps || since_progress.seconds() >= options.progress_interval) {
        options.progress(totals.totals());
        since_progress.restart();
      }
    }
    return totals.totals();
  }

  // Each process goes through a part of the data, or its own, and the sums meet at the end.
  Totals evaluate_in_parallel(const Dataset& data, const EpochOptions& options) const {
    const std::int64_t samples = check_data(data, options);
    static_cast<void>(split(samples, options.batch_size));
    EpochOptions own = options;
    own.samples = samples;
    std::int64_t begin = 0;
    if (!parallel.sharded) {
      begin = samples * parallel.rank / parallel.ranks;
      own.samples = samples * (parallel.rank + 1) / parallel.ranks - begin;
    }
    const std::int64_t size = std::min(options.batch_size, std::max<std::int64_t>(own.samples, 1));
    const Lease lease(*this, size, false);
    Accumulator totals(objective.metric_count());
    Stopwatch since_progress;
    for (std::int64_t done = 0; done < own.samples; done += size) {
      const std::int64_t count = std::min(size, own.samples - done);
      run_batch(*lease, take(*lease, data, options.order, begin + done, count), false, totals);
      if (!options.progress || done + count == own.samples) continue;
      if (since_progress.seconds() >= options.progress_interval) {
        options.progress(totals.totals());
        since_progress.restart();
      }
    }
    std::vector<double> sums(static_cast<std::size_t>(Accumulator::sum_count(objective.metric_count())));
    totals.write_sums(sums.data());
    parallel.all_reduce_totals(sums.data(), static_cast<std::int64_t>(sums.size()));
    Accumulator all(objective.metric_count());
    all.add_sums(sums.data(), (samples + options.batch_size - 1) / options.batch_size);
    if (options.progress) options.progress(all.totals());
    return all.totals();
  }

  // ---- On another device ----

  // A step on a device, in segments: the first ends where gradients go out first, the last begins when all are back.
  struct DeviceStep {
    Workspace& workspace;
    const Dataset& data;
    std::int64_t batch_size;    // samples from one step's first to the next one's
    Impl* trained;              // null: nothing is trained
    std::vector<Piece> pieces;  // empty: one process alone
    Descent descent{};

    std::size_t segments() const { return pieces.empty() ? 1 : pieces.size() + 1; }
  };

  // Launches a segment on the batch that the state points to; nothing here may wait for the device.
  void launch_segment(DeviceStep& step, const DeviceEpoch::StepSize& size, std::size_t segment) const {
    Workspace& w = step.workspace;
    if (segment == 0) {
      backend(context.device).begin_step(context, optimizer, device_epoch->source(), device_epoch->state());
      const std::size_t nodes = size.own > 0 ? launch_forward(step, size) : 0;
      if (step.trained == nullptr) return;
      Parameters& own = step.trained->parameters;
      if (size.own > 0)
        step.descent = descend_from(w, nodes);
      else
        own.clear_gradients_on_device();
      if (!step.pieces.empty())
        own.write_statistics_on_device(static_cast<float>(size.own) / static_cast<float>(size.all));
    }
    if (step.trained == nullptr) return;
    const bool last = segment + 1 == step.segments();
    const bool sends = !step.pieces.empty() && !last;
    if (size.own > 0 && (sends || step.pieces.empty()))
      step.trained->backward(w, make_pass(size.own, true), step.descent,
                             sends ? step.pieces[segment].node : first_trained(loss_nodes()));
    if (!last) return;
    if (!step.pieces.empty()) step.trained->parameters.read_statistics_on_device();
    step.trained->parameters.step_on_device(optimizer, device_epoch->state());
  }

  // The batch, its loss and metrics; returns the number of nodes a backward pass goes through.
  std::size_t launch_forward(const DeviceStep& step, const DeviceEpoch::StepSize& size) const {
    Workspace& w = step.workspace;
    const Dataset& data = step.data;
    DeviceEpoch& epoch = *device_epoch;
    const bool training = step.trained != nullptr;
    const Shape row = data.targets.shape.without_batch();
    GatheredBatch gathered;
    gathered.batch_size = step.batch_size;
    gathered.size = size.own;
    gathered.input_size = input_shape.size();
    gathered.input_type = data.inputs.dtype;
    gathered.target_bytes = row.size() * static_cast<std::int64_t>(size_of(data.targets.dtype));
    gathered.inputs = w.input.f32();
    gathered.targets = w.targets.data();
    gathered.weights = data.sample_weights.present() ? w.weights.f32() : nullptr;
    backend(context.device).gather(context, epoch.source(), epoch.state(), gathered);
    const Batch batch{size.own,
                      size.all,
                      w.input.f32(),
                      {w.targets.data(), data.targets.dtype, row.with_batch(size.own), context.device},
                      gathered.weights};
    const auto [last, measured] = run_forward(w, batch, training);
    objective.evaluate_on_device(context, measured, scratch_of(w), training ? w.gradients[0].f32() : nullptr,
                                 epoch.totals());
    return last;
  }

  // Sends what a segment has made, and waits for all of it after the last one that sends.
  void exchange_on_device(const DeviceStep& step, std::size_t segment) const {
    if (segment >= step.pieces.size()) return;
    Parameters& own = step.trained->parameters;
    const auto [node, begin, end] = step.pieces[segment];
    const bool last = segment + 1 == step.pieces.size();
    if (parallel.on_device) {
      parallel.all_reduce(own.device_exchange() + begin, end - begin);
      if (last && parallel.wait) parallel.wait();
      return;
    }
    Backend& owner = backend(context.device);
    const auto bytes = [](std::int64_t floats) { return static_cast<std::size_t>(floats) * sizeof(float); };
    owner.copy_out(context, own.exchange() + begin, own.device_exchange() + begin, bytes(end - begin));
    owner.wait(context);
    parallel.all_reduce(own.exchange() + begin, end - begin);
    if (!last) return;
    if (parallel.wait) parallel.wait();
    owner.copy_in(context, own.device_exchange(), own.exchange(), bytes(own.exchange_size()));
  }

  // This process's samples of an epoch, one step's after the other's.
  struct DeviceShare {
    Part part;
    std::vector<std::int64_t> order;
  };

  DeviceShare share_of(const EpochOptions& options, std::int64_t samples, bool training) const {
    DeviceShare share{split(samples, options.batch_size), {}};
    const auto take_rows = [&](std::int64_t begin, std::int64_t count) {
      for (std::int64_t i = begin; i < begin + count; ++i)
        share.order.push_back(options.order == nullptr ? i : options.order[i]);
    };
    if (training) {
      for (std::int64_t step = 0; step < share.part.steps; ++step) {
        const auto [begin, count, all] = share.part.samples(step);
        take_rows(begin, count);
      }
    } else if (parallel.sharded) {
      take_rows(0, samples);
    } else {
      const std::int64_t begin = samples * parallel.rank / parallel.ranks;
      take_rows(begin, samples * (parallel.rank + 1) / parallel.ranks - begin);
    }
    return share;
  }

  // `trained` is this network, or null: nothing is trained.
  Totals run_on_device(const Dataset& data, const EpochOptions& options, Impl* trained) const {
    const std::lock_guard<std::mutex> lock(device_mutex);
    const bool training = trained != nullptr;
    const std::int64_t samples = check_data(data, options);
    DeviceShare share;
    EpochOptions own = options;
    own.samples = samples;
    own.batch_size = std::min(options.batch_size, samples);
    std::int64_t largest = own.batch_size;
    if (in_parallel()) {
      share = share_of(options, samples, training);
      own.order = share.order.data();
      own.samples = static_cast<std::int64_t>(share.order.size());
      if (training) {
        check_rates(options, share.part.steps);
        own.batch_size = share.part.samples(0)[1];
        largest = share.part.largest;
        if (trained->parameters.begin_exchange(0)) device_epoch->forget_graphs();
      }
    }
    const Lease lease(*this, largest, training);
    reserve_targets(*lease, data);
    // A captured step holds the kind of data it gathers.
    const std::tuple<DType, DType, bool> kind{data.inputs.dtype, data.targets.dtype, data.sample_weights.present()};
    if (kind != device_data_kind || own.batch_size != device_batch_size) device_epoch->forget_graphs();
    device_data_kind = kind;
    device_batch_size = own.batch_size;
    const bool exchanges = in_parallel() && training;
    DeviceStep step{*lease, data, own.batch_size, trained, exchanges ? pieces() : std::vector<Piece>()};
    DeviceEpoch::Plan run;
    run.training = training;
    run.samples = own.samples;
    run.batch_size = own.batch_size;
    run.steps = exchanges ? share.part.steps : (own.samples + own.batch_size - 1) / own.batch_size;
    run.batches = exchanges ? run.steps : (samples + options.batch_size - 1) / options.batch_size;
    run.size = [&](std::int64_t index) -> DeviceEpoch::StepSize {
      if (exchanges) {
        const auto [begin, count, all] = share.part.samples(index);
        return {count, all};
      }
      const std::int64_t count = std::min(own.batch_size, own.samples - index * own.batch_size);
      return {count, count};
    };
    run.first_iteration = iterations;
    run.metrics = objective.metric_count();
    run.learning_rate = [this] { return optimizer.learning_rate; };
    run.segments = step.segments();
    run.step = [&](const DeviceEpoch::StepSize& size, std::size_t segment) { launch_segment(step, size, segment); };
    if (exchanges) {
      run.between = [&](std::size_t segment) { exchange_on_device(step, segment); };
      run.synchronize = parallel.synchronize;
      run.in_step = true;
    }
    if (in_parallel())
      run.add_up = [this](std::vector<double>& numbers) {
        parallel.all_reduce_totals(numbers.data(), static_cast<std::int64_t>(numbers.size()));
      };
    run.stepped = [&] {
      if (trained == nullptr) return;
      ++trained->iterations;
      trained->parameters.changed_on_device();
    };
    return device_epoch->run(data, own, run);
  }

  // Calls use(layer activations) for slices of the inputs, which it uploads; on the host's side of `use` nothing waits.
  template <typename Use>
  void forward_on_device(const ConstTensorView& inputs, const EpochOptions& options, std::int64_t samples,
                         bool keep_all, Use&& use) const {
    const std::lock_guard<std::mutex> lock(device_mutex);
    Backend& owner = backend(context.device);
    const std::int64_t size = std::min(options.batch_size, samples);
    const Lease lease(*this, size, keep_all);
    Workspace& w = *lease;
    Buffer host({}, input_shape.with_batch(size));
    for (std::int64_t begin = 0; begin < samples; begin += size) {
      const std::int64_t count = std::min(size, samples - begin);
      const auto bytes = static_cast<std::size_t>(count * input_shape.size()) * sizeof(float);
      ConstTensorView from = inputs;
      Buffer fetched;
      if (inputs.device.type != DeviceType::cpu) {
        fetched = Buffer({}, inputs.shape.without_batch().with_batch(count), inputs.dtype);
        const std::size_t row = fetched.bytes() / static_cast<std::size_t>(count);
        owner.copy_out(context, fetched.data(),
                       static_cast<const std::byte*>(inputs.data) + row * static_cast<std::size_t>(begin),
                       fetched.bytes());
        owner.wait(context);
        from = {fetched.data(), fetched.dtype(), fetched.shape()};
      }
      const bool moved = from.data == fetched.data();
      owner.copy_in(context, w.input.data(),
                    gather_rows(from, moved ? nullptr : options.order, moved ? 0 : begin, count, host), bytes);
      Pass pass = make_pass(count, false);
      pass.state = nullptr;
      forward(w, pass, w.input.f32(), plan.nodes.size());
      use(w, begin, count);
    }
  }

  mutable std::tuple<DType, DType, bool> device_data_kind;
  mutable std::int64_t device_batch_size = 0;

  template <typename Step>
  Totals run_epoch(const Dataset& data, const EpochOptions& options, bool training, Step&& step) const {
    const std::int64_t samples = check_data(data, options);
    const std::int64_t size = std::min(options.batch_size, samples);
    const Lease lease(*this, size, training);
    Accumulator totals(objective.metric_count());
    Stopwatch since_progress;
    for (std::int64_t begin = 0; begin < samples; begin += size) {
      const std::int64_t count = std::min(size, samples - begin);
      step(*lease, take(*lease, data, options.order, begin, count), totals);
      if (!options.progress) continue;
      const bool last = begin + count == samples;
      if (last || since_progress.seconds() >= options.progress_interval) {
        options.progress(totals.totals());
        since_progress.restart();
      }
    }
    return totals.totals();
  }
};

namespace {

void check_layers(const std::vector<Layer>& layers, const Shape& input_shape) {
  if (layers.empty()) throw ValueError("layers is empty, but a network needs at least one layer");
  for (const std::int64_t extent : input_shape) check::at_least(extent, 1, "input_shape");
}

}  // namespace

std::vector<ParameterInfo> network_parameters(const std::vector<Layer>& layers, const Shape& input_shape) {
  check_layers(layers, input_shape);
  Parameters parameters;
  static_cast<void>(compile_plan(layers, input_shape, parameters));
  return parameters.infos();
}

Network::Network(std::vector<Layer> layers, const Shape& input_shape, std::uint64_t seed)
    : impl_(std::make_unique<Impl>()) {
  check_layers(layers, input_shape);
  impl_->layers = std::move(layers);
  impl_->input_shape = input_shape;
  impl_->plan = compile_plan(impl_->layers, input_shape, impl_->parameters);
  impl_->parameters.allocate();
  impl_->seed = seed;
  initialize(seed);
}

Network::~Network() = default;
Network::Network(Network&&) noexcept = default;
Network& Network::operator=(Network&&) noexcept = default;

const std::vector<Layer>& Network::layers() const noexcept { return impl_->layers; }
const Shape& Network::input_shape() const noexcept { return impl_->input_shape; }
const Shape& Network::output_shape() const noexcept { return impl_->output_shape(); }

const Shape& Network::output_shape(std::size_t index) const {
  if (index >= impl_->plan.shapes.size())
    throw ValueError("index is " + std::to_string(index) + ", but the network has " +
                     std::to_string(impl_->plan.shapes.size()) + " layers");
  return impl_->plan.shapes[index];
}

void Network::initialize(std::uint64_t seed) {
  Parameters& parameters = impl_->parameters;
  for (std::size_t index = 0; index < parameters.count(); ++index) {
    const ParameterInfo& info = parameters.infos()[index];
    const TensorView value{parameters.host_value(index), info.shape};
    if (info.name == "kernel") {
      // Fans as Keras counts them: the receptive field times the input and output channels.
      const Shape& shape = info.shape;
      const auto in = static_cast<double>(shape[shape.rank() - 2]);
      const auto out = static_cast<double>(shape[shape.rank() - 1]);
      const double field = static_cast<double>(shape.size()) / (in * out);
      const auto limit = static_cast<float>(std::sqrt(6.0 / (field * (in + out))));
      fill_uniform(value, -limit, limit, seed + index);
    } else {
      const bool one = info.name == "gamma" || info.name == "moving_variance";
      std::fill_n(value.f32(), info.shape.size(), one ? 1.0F : 0.0F);
    }
  }
  parameters.push();
  impl_->weights_changed();
}

const std::vector<ParameterInfo>& Network::parameters() const noexcept { return impl_->parameters.infos(); }

namespace {

void check_parameter(const Parameters& parameters, std::size_t index) {
  if (index >= parameters.count())
    throw ValueError("index is " + std::to_string(index) + ", but the network has " +
                     std::to_string(parameters.count()) + " parameters");
}

}  // namespace

ConstTensorView Network::parameter(std::size_t index) const {
  check_parameter(impl_->parameters, index);
  return {impl_->parameters.host_value(index), impl_->parameters.infos()[index].shape};
}

void Network::set_parameter(std::size_t index, ConstTensorView value) {
  check_parameter(impl_->parameters, index);
  check::float32(value, "value");
  check::shape(value, "value", impl_->parameters.infos()[index].shape, "the parameter's own shape");
  check::on_host(value, "value");
  std::copy_n(value.f32(), value.shape.size(), impl_->parameters.host_value(index));
  impl_->parameters.push();
  impl_->weights_changed();
}

namespace {

void check_layer(const std::vector<Layer>& layers, std::size_t layer) {
  if (layer >= layers.size())
    throw ValueError("layer is " + std::to_string(layer) + ", but the network has " + std::to_string(layers.size()) +
                     " layers");
}

}  // namespace

void Network::set_trainable(std::size_t layer, bool trainable) {
  check_layer(impl_->layers, layer);
  impl_->parameters.set_trainable(layer, trainable);
  impl_->settings_changed();
}

bool Network::trainable(std::size_t layer) const {
  check_layer(impl_->layers, layer);
  return impl_->parameters.layer_trainable(layer);
}

void Network::compile(const LossOptions& loss, const OptimizerOptions& optimizer, std::vector<NetworkMetric> metrics) {
  Objective objective(loss, std::move(metrics), impl_->output_shape(), impl_->plan.ends_in_softmax);
  check_optimizer(optimizer);
  impl_->parameters.allocate_slots(optimizer_slot_count(optimizer));
  impl_->objective = std::move(objective);
  impl_->optimizer = optimizer;
  impl_->iterations = 0;
  impl_->compiled = true;
  impl_->settings_changed();
}

bool Network::compiled() const noexcept { return impl_->compiled; }
const LossOptions& Network::loss() const noexcept { return impl_->objective.loss(); }
const OptimizerOptions& Network::optimizer() const noexcept { return impl_->optimizer; }
const std::vector<NetworkMetric>& Network::metrics() const noexcept { return impl_->objective.metrics(); }
float Network::learning_rate() const { return impl_->optimizer.learning_rate; }

void Network::set_learning_rate(float learning_rate) {
  if (!(learning_rate >= 0.0F) || std::isinf(learning_rate))
    throw ValueError("learning_rate is " + std::to_string(learning_rate) + ", but must be finite and not negative");
  impl_->optimizer.learning_rate = learning_rate;
}

std::int64_t Network::iterations() const noexcept { return impl_->iterations; }

void Network::set_iterations(std::int64_t iterations) {
  constexpr std::int64_t most = std::numeric_limits<std::int64_t>::max() / 2;  // steps are added to it
  if (iterations < 0 || iterations > most)
    throw ValueError("iterations is " + std::to_string(iterations) + ", but must be between 0 and " +
                     std::to_string(most));
  impl_->iterations = iterations;
}

ConstTensorView Network::optimizer_slot(std::size_t index, int slot) const {
  check_parameter(impl_->parameters, index);
  const float* state = impl_->parameters.slot(index, slot);
  if (state == nullptr) return {};
  return {state, impl_->parameters.infos()[index].shape};
}

void Network::set_optimizer_slot(std::size_t index, int slot, ConstTensorView value) {
  check_parameter(impl_->parameters, index);
  float* state = impl_->parameters.slot(index, slot);
  if (state == nullptr)
    throw ValueError("slot is " + std::to_string(slot) + ", which parameter " + std::to_string(index) +
                     " has not under this optimizer");
  check::float32(value, "value");
  check::shape(value, "value", impl_->parameters.infos()[index].shape, "the parameter's own shape");
  check::on_host(value, "value");
  std::copy_n(value.f32(), value.shape.size(), state);
  impl_->parameters.push();
}

void Network::set_seed(std::uint64_t seed) noexcept {
  impl_->seed = seed;
  impl_->settings_changed();
}
std::uint64_t Network::seed() const noexcept { return impl_->seed; }

const NetworkNotes& Network::notes() const noexcept { return impl_->notes; }
void Network::set_notes(NetworkNotes notes) { impl_->notes = std::move(notes); }

Totals Network::train_batch(const Dataset& batch) {
  EpochOptions options;
  options.batch_size = std::max<std::int64_t>(batch.inputs.shape.rank() > 0 ? batch.inputs.shape[0] : 1, 1);
  return train_epoch(batch, options);
}

Totals Network::test_batch(const Dataset& batch) {
  EpochOptions options;
  options.batch_size = std::max<std::int64_t>(batch.inputs.shape.rank() > 0 ? batch.inputs.shape[0] : 1, 1);
  return evaluate(batch, options);
}

void Network::to(Device device) {
  if (device == impl_->context.device) return;
  // Made first: where it fails, nothing has changed.
  std::unique_ptr<DeviceEpoch> epoch;
  if (device.type != DeviceType::cpu) epoch = std::make_unique<DeviceEpoch>(device);
  Context context = epoch ? epoch->context() : Context{};
  context.matmul_precision = impl_->context.matmul_precision;
  impl_->parameters.to(context);
  impl_->workspaces.clear();
  impl_->device_epoch = std::move(epoch);
  impl_->context = context;
  impl_->weights_changed();
}

Device Network::device() const noexcept { return impl_->context.device; }

void Network::set_matmul_precision(MatmulPrecision matmul_precision) noexcept {
  if (matmul_precision == impl_->context.matmul_precision) return;
  if (impl_->device_epoch) impl_->device_epoch->forget_graphs();
  impl_->context.matmul_precision = matmul_precision;
}

MatmulPrecision Network::matmul_precision() const noexcept { return impl_->context.matmul_precision; }

void* Network::stream() const noexcept { return impl_->context.stream; }

void Network::set_data_parallel(DataParallel parallel) {
  check::at_least(parallel.ranks, 1, "ranks");
  check::at_least(parallel.rank, 0, "rank");
  check::at_least(parallel.bucket_bytes, 1, "bucket_bytes");
  if (parallel.rank >= parallel.ranks)
    throw ValueError("rank is " + std::to_string(parallel.rank) + ", but must be below ranks, which is " +
                     std::to_string(parallel.ranks));
  if (parallel.ranks > 1 && (!parallel.all_reduce || !parallel.all_reduce_totals))
    throw ValueError("all_reduce or all_reduce_totals is missing, but several ranks need both");
  impl_->parallel = std::move(parallel);
  impl_->settings_changed();
}

Totals Network::train_epoch(const Dataset& data, const EpochOptions& options) {
  if (impl_->device_epoch) return impl_->run_on_device(data, options, impl_.get());
  std::int64_t step = 0;
  const float own_rate = impl_->optimizer.learning_rate;
  struct Restore {
    float* rate;
    float value;
    bool active;
    ~Restore() {
      if (active) *rate = value;
    }
  } const restore{&impl_->optimizer.learning_rate, own_rate, options.learning_rates != nullptr};
  if (impl_->in_parallel()) return impl_->train_epoch_in_parallel(data, options);
  return impl_->run_epoch(data, options, true, [&](Workspace& w, const Impl::Batch& batch, Accumulator& totals) {
    if (options.learning_rates != nullptr) set_learning_rate(options.learning_rates[step++]);
    impl_->train(w, batch, totals);
  });
}

Totals Network::evaluate(const Dataset& data, const EpochOptions& options) const {
  if (impl_->device_epoch) return impl_->run_on_device(data, options, nullptr);
  impl_->prepare();
  if (impl_->in_parallel()) return impl_->evaluate_in_parallel(data, options);
  return impl_->run_epoch(data, options, false, [&](Workspace& w, const Impl::Batch& batch, Accumulator& totals) {
    impl_->run_batch(w, batch, false, totals);
  });
}

void Network::predict(ConstTensorView inputs, TensorView outputs, const EpochOptions& options) const {
  impl_->check_inputs(inputs);
  const std::int64_t samples = Impl::check_order(options, inputs.shape[0]);
  check::float32(outputs, "outputs");
  check::shape(outputs, "outputs", impl_->output_shape().with_batch(samples), "one prediction a sample");
  check::on_host(outputs, "outputs");
  if (samples == 0) return;
  const std::int64_t width = impl_->output_shape().size();
  Totals totals;
  Stopwatch since_progress;
  if (impl_->device_epoch) {
    impl_->forward_on_device(
        inputs, options, samples, false, [&](Workspace& w, std::int64_t begin, std::int64_t count) {
          Backend& owner = backend(impl_->context.device);
          owner.copy_out(impl_->context, outputs.f32() + begin * width, w.activations[impl_->plan.nodes.size()],
                         static_cast<std::size_t>(count * width) * sizeof(float));
          owner.wait(impl_->context);
          totals.samples += count;
          ++totals.batches;
          const bool last = begin + count == samples;
          if (!options.progress || (!last && since_progress.seconds() < options.progress_interval)) return;
          options.progress(totals);
          since_progress.restart();
        });
    return;
  }
  impl_->prepare();
  const std::int64_t size = std::min(options.batch_size, samples);
  const Impl::Lease lease(*impl_, size, false);
  for (std::int64_t begin = 0; begin < samples; begin += size) {
    const std::int64_t count = std::min(size, samples - begin);
    const auto* input = static_cast<const float*>(gather_rows(inputs, options.order, begin, count, (*lease).input));
    impl_->forward(*lease, impl_->make_pass(count, false), input, impl_->plan.nodes.size());
    std::copy_n((*lease).activations[impl_->plan.nodes.size()], count * width, outputs.f32() + begin * width);
    totals.samples += count;
    ++totals.batches;
    const bool last = begin + count == samples;
    if (options.progress && (last || since_progress.seconds() >= options.progress_interval)) {
      options.progress(totals);
      since_progress.restart();
    }
  }
}

std::int64_t Network::first_nonfinite_layer(ConstTensorView inputs) const {
  impl_->check_inputs(inputs);
  const std::int64_t samples = inputs.shape[0];
  if (samples == 0) return -1;
  if (impl_->device_epoch) {
    std::int64_t first = -1;
    EpochOptions all;
    all.batch_size = samples;
    impl_->forward_on_device(inputs, all, samples, true, [&](Workspace& w, std::int64_t, std::int64_t) {
      for (std::size_t i = 0; i < impl_->plan.nodes.size() && first < 0; ++i) {
        std::vector<float> values(static_cast<std::size_t>(samples * impl_->plan.nodes[i]->output_size()));
        Backend& owner = backend(impl_->context.device);
        owner.copy_out(impl_->context, values.data(), w.activations[i + 1], values.size() * sizeof(float));
        owner.wait(impl_->context);
        if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); }))
          first = static_cast<std::int64_t>(impl_->plan.nodes[i]->layer());
      }
    });
    return first;
  }
  impl_->prepare();
  const Impl::Lease lease(*impl_, samples, true);
  Workspace& w = *lease;
  const auto* input = static_cast<const float*>(gather_rows(inputs, nullptr, 0, samples, w.input));
  impl_->forward(w, impl_->make_pass(samples, false), input, impl_->plan.nodes.size());
  for (std::size_t i = 0; i < impl_->plan.nodes.size(); ++i) {
    const float* values = w.activations[i + 1];
    const std::int64_t size = samples * impl_->plan.nodes[i]->output_size();
    if (!std::all_of(values, values + size, [](float value) { return std::isfinite(value); }))
      return static_cast<std::int64_t>(impl_->plan.nodes[i]->layer());
  }
  return -1;
}

}  // namespace convec
