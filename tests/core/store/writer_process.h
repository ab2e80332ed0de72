#ifndef NORMD_TESTS_CORE_STORE_WRITER_PROCESS_H_
#define NORMD_TESTS_CORE_STORE_WRITER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/store/state_store.h"

namespace normd {

// A run of store_writer.
struct WriterRun {
  std::string directory;
  int commits_min = 1;                               // acknowledged before it is killed
  std::vector<std::string> environment = {};         // "NAME=value" each, beside this process's
  std::function<void(pid_t)> before_kill = nullptr;  // gets the writer
};

// Runs the writer and kills it. Sets in `acknowledged` the last revision that it acknowledged of
// each name.
void RunAndKill(const WriterRun& run, std::map<std::string, int64_t>& acknowledged);

// What `store` has lost, or should not have, after its writer was killed; empty: all is well. Then
// `acknowledged` is what the store holds.
std::string FindLoss(const StateStore& store, std::map<std::string, int64_t>& acknowledged);

}  // namespace normd

#endif  // NORMD_TESTS_CORE_STORE_WRITER_PROCESS_H_
