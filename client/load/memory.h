#ifndef NORMD_CLIENT_LOAD_MEMORY_H_
#define NORMD_CLIENT_LOAD_MEMORY_H_

namespace normd::load {

// Has malloc keep what is freed and take large blocks from its heap, for the rest of the process:
// messages of 64 KiB and more are otherwise mapped, zeroed and given back by the kernel each time,
// which costs more than to copy them. To be called before other threads start.
void KeepFreedMemory();

}  // namespace normd::load

#endif  // NORMD_CLIENT_LOAD_MEMORY_H_
