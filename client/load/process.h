#ifndef NORMD_CLIENT_LOAD_PROCESS_H_
#define NORMD_CLIENT_LOAD_PROCESS_H_

namespace normd::load {

// Makes this process fit for large messages at a high rate, for the rest of its life, as the server
// does: malloc keeps what is freed and takes large blocks from its heap, which are otherwise
// mapped, zeroed and given back by the kernel each time, and Abseil, as Debian builds it, stops
// searching for deadlocks at every lock. To be called before other threads start.
void TuneProcess();

}  // namespace normd::load

#endif  // NORMD_CLIENT_LOAD_PROCESS_H_
