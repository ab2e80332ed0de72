#ifndef NORMD_CORE_STORE_ZEROS_AHEAD_H_
#define NORMD_CORE_STORE_ZEROS_AHEAD_H_

#include <cstdint>
#include <string>

namespace normd {

// Keeps zeros in a file behind its end, in the place of which short appends are written: a sync of
// an append that makes a file longer has the file system write its own records too, one of an
// append over zeros only the append. Each byte is written twice for that, so long appends go
// without. Thread-compatible.
class ZerosAhead {
 public:
  // An append of more bytes is a long one.
  static constexpr uint64_t kShortBytes = uint64_t{64} << 10;
  // How many zeros are written at a time.
  static constexpr uint64_t kZeroBytes = uint64_t{1} << 20;

  // The file must be there. One that cannot be opened gets no zeros.
  explicit ZerosAhead(const std::string& path);
  ~ZerosAhead();

  ZerosAhead(const ZerosAhead&) = delete;
  ZerosAhead& operator=(const ZerosAhead&) = delete;

  // `bytes` bytes are about to be written at `end`, where what was appended so far ends. If they
  // are few and reach behind the zeros, more are written, behind them; where the disk takes none,
  // the append goes without.
  void BeforeAppend(uint64_t end, uint64_t bytes);

 private:
  const int fd_;            // -1: no zeros
  uint64_t zeros_end_ = 0;  // behind it the file has none
};

}  // namespace normd

#endif  // NORMD_CORE_STORE_ZEROS_AHEAD_H_
