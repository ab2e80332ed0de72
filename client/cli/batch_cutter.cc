#include "client/cli/batch_cutter.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/cli/status_macros.h"
#include "client/cpp/wire_status.h"

namespace normd::cli {
namespace {

// Values per channel in one row.
int64_t SpatialSize(const std::vector<int64_t>& shape, client::Layout layout) {
  const size_t channel_axis = layout == client::Layout::kChannelsFirst ? 1 : shape.size() - 1;
  if (std::find(shape.begin(), shape.end(), 0) != shape.end()) return 0;
  int64_t size = 1;
  for (size_t axis = 1; axis < shape.size(); ++axis) {
    if (axis != channel_axis) size *= shape[axis];
  }
  return size;
}

}  // namespace

std::string PlaceToText(const BatchPlace& place) {
  return absl::StrCat("mini-batch ", place.number, " (",
                      place.epoch > 1 ? absl::StrCat("epoch ", place.epoch, ", ") : "",
                      place.array > 1 ? absl::StrCat("array ", place.array, ", ") : "", "rows ",
                      place.first_row, ":", place.end_row, ")");
}

BatchCutter::BatchCutter(ArrayReader* reader, const CutOptions& options)
    : reader_(reader), options_(options) {}

absl::StatusOr<std::optional<BatchCutter::MiniBatch>> BatchCutter::Next() {
  if (array_is_taken_) {
    NORMD_CLI_ASSIGN_OR_RETURN(const bool found, NextArray());
    if (!found) return std::nullopt;
  }
  const int64_t rows_left = shape_[0] - next_row_;
  const int64_t rows =
      options_.batch_size > 0 ? std::min(options_.batch_size, rows_left) : rows_left;
  MiniBatch batch;
  NORMD_CLI_ASSIGN_OR_RETURN(batch.array, ReadRows(rows));
  BatchPlace& place = batch.place;
  place.number = ++number_;
  place.epoch = epoch_;
  place.array = array_;
  place.first_row = next_row_;
  place.end_row = next_row_ + rows;
  place.bytes = static_cast<int64_t>(batch.array.bytes.size());
  place.dtype = batch.array.dtype;
  if (next_row_ == 0) place.array_shape = shape_;
  if (reader_->bytes_total().has_value() && *reader_->bytes_total() > 0) {
    const double of_epoch =
        static_cast<double>(reader_->bytes_read()) / static_cast<double>(*reader_->bytes_total());
    place.fraction_read =
        (static_cast<double>(epoch_ - 1) + of_epoch) / static_cast<double>(options_.epochs);
  }
  next_row_ += rows;
  array_is_taken_ = next_row_ == shape_[0];
  return batch;
}

absl::StatusOr<Array> BatchCutter::ReadRows(int64_t rows) {
  NORMD_CLI_ASSIGN_OR_RETURN(Array array, reader_->ReadRows(rows));
  const client::DataType own = reader_->is_text() ? client::DataType::kFloat32 : array.dtype;
  absl::StatusOr<Array> converted = Convert(std::move(array), options_.dtype.value_or(own));
  if (converted.ok()) return converted;
  return absl::InvalidArgumentError(
      absl::StrCat(reader_->name(), ": ", converted.status().message()));
}

absl::StatusOr<bool> BatchCutter::NextArray() {
  while (true) {
    // Rows that were dropped.
    if (reader_->rows_left() > 0) {
      NORMD_CLI_RETURN_IF_ERROR(reader_->ReadRows(reader_->rows_left()).status());
    }
    NORMD_CLI_ASSIGN_OR_RETURN(std::optional<std::vector<int64_t>> shape, reader_->NextArray());
    if (!shape.has_value()) {
      if (epoch_ == options_.epochs) return false;
      NORMD_CLI_RETURN_IF_ERROR(reader_->Rewind());
      ++epoch_;
      array_ = 0;
      continue;
    }
    ++array_;
    shape_ = *std::move(shape);
    next_row_ = 0;
    const bool cut = options_.batch_size > 0 && shape_[0] > 0;
    const int64_t last_rows = cut ? shape_[0] % options_.batch_size : 0;
    if (options_.drop_last) {
      shape_[0] -= last_rows;
      if (cut && shape_[0] == 0) continue;
    }
    if (options_.needs_variance) {
      const int64_t first_rows = cut ? std::min(options_.batch_size, shape_[0]) : shape_[0];
      NORMD_CLI_RETURN_IF_ERROR(CheckVariance(shape_, first_rows));
      if (!options_.drop_last) NORMD_CLI_RETURN_IF_ERROR(CheckVariance(shape_, last_rows));
    }
    return true;
  }
}

absl::Status BatchCutter::CheckVariance(const std::vector<int64_t>& shape, int64_t rows) const {
  if (rows != 1 || shape.size() < 2 || SpatialSize(shape, options_.layout) != 1) {
    return absl::OkStatus();
  }
  const bool remainder = options_.batch_size > 1 && shape[0] > 1;
  const std::string message = absl::StrCat(
      reader_->name(), ": an array of shape ", ShapeToText(shape),
      remainder ? absl::StrCat(" cut into mini-batches of ", options_.batch_size,
                               " rows leaves a last one of 1 row")
                : std::string(" gives mini-batches of 1 row"),
      ": one value per channel has no variance to train with; choose another --batch-size",
      remainder ? ", or leave the last one out with --drop-last" : "");
  return client::MakeLocalError(absl::StatusCode::kInvalidArgument, v1::ONE_VALUE_PER_CHANNEL,
                                message);
}

}  // namespace normd::cli
