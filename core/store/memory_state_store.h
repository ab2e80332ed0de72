#ifndef NORMD_CORE_STORE_MEMORY_STATE_STORE_H_
#define NORMD_CORE_STORE_MEMORY_STATE_STORE_H_

#include <memory>

#include "core/store/state_store.h"

namespace normd {

// A store in memory, gone with the process: for tests and for states that need not last.
std::unique_ptr<StateStore> NewMemoryStateStore();

}  // namespace normd

#endif  // NORMD_CORE_STORE_MEMORY_STATE_STORE_H_
