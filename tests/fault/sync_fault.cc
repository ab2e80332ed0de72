// For LD_PRELOAD: as soon as the file named by NORMD_SYNC_FAULT_TRIGGER is there, every fsync and
// fdatasync fails with EIO, and nothing is synced. With NORMD_SYNC_FAULT_NONE nothing is ever
// synced, and nobody is told.
#include <dlfcn.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

namespace {

int Sync(const char* function, int fd) {
  if (std::getenv("NORMD_SYNC_FAULT_NONE") != nullptr) return 0;
  const char* trigger = std::getenv("NORMD_SYNC_FAULT_TRIGGER");
  if (trigger != nullptr && ::access(trigger, F_OK) == 0) {
    errno = EIO;
    return -1;
  }
  const auto real = reinterpret_cast<int (*)(int)>(::dlsym(RTLD_NEXT, function));
  return real(fd);
}

}  // namespace

extern "C" int fsync(int fd) { return Sync("fsync", fd); }

extern "C" int fdatasync(int fd) { return Sync("fdatasync", fd); }
