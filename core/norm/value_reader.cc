#include "core/norm/value_reader.h"

#include <cstring>

namespace normd {

PieceIndex::PieceIndex(const TensorBytes& bytes) : run_(bytes.run()), pieces_(bytes.pieces()) {
  ends_.reserve(pieces_.size());
  size_t end = 0;
  for (const absl::string_view piece : pieces_) ends_.push_back(end += piece.size());
}

size_t PieceIndex::Find(size_t at, size_t guess) const {
  // Most reads go on where the last one ended.
  if (begin(guess) <= at) {
    if (at < end(guess)) return guess;
    if (guess + 1 < ends_.size() && at < end(guess + 1)) return guess + 1;
  }
  return static_cast<size_t>(std::upper_bound(ends_.begin(), ends_.end(), at) - ends_.begin());
}

const char* ByteReader::Seek(size_t at) {
  piece_ = index_.Find(at, piece_);
  return index_.pieces()[piece_].data() + (at - index_.begin(piece_));
}

size_t ByteReader::InPlace(size_t at) {
  Seek(at);
  return index_.end(piece_) - at;
}

void ByteReader::Copy(size_t at, size_t count, char* to) {
  while (count > 0) {
    const char* const from = Seek(at);
    const size_t part = std::min(count, index_.end(piece_) - at);
    std::memcpy(to, from, part);
    to += part;
    at += part;
    count -= part;
  }
}

char* ByteReader::Block(size_t bytes) {
  if (block_bytes_ < bytes) {
    const size_t lines = (bytes + sizeof(Line) - 1) / sizeof(Line);
    block_.reset(new Line[lines]);  // make_unique would clear it
    block_bytes_ = lines * sizeof(Line);
  }
  return block_[0].bytes;
}

const char* ByteReader::Read(size_t at, size_t count) {
  const char* const from = Seek(at);
  if (index_.end(piece_) - at >= count) return from;
  char* const block = Block(count);
  Copy(at, count, block);
  return block;
}

const char* ByteReader::ReadRows(size_t at, size_t rows, size_t stride, size_t columns) {
  char* const block = Block(rows * columns);
  for (size_t row = 0; row < rows; ++row) Copy(at + row * stride, columns, block + row * columns);
  return block;
}

}  // namespace normd
