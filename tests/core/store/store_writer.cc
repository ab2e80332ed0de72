// store_writer DIRECTORY THREADS: opens the store and commits for ever. Each thread T overwrites
// the names wT/0 .. wT/9, two in a commit, and after each commit writes one line to standard
// output: "wT/a revision wT/b revision". Ends with 1 and the status on standard error when a call
// fails.
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/core/store/store_test_util.h"

namespace {

void Fail(const absl::Status& status) {
  std::cerr << status << std::endl;
  _exit(1);
}

void Write(normd::StateStore& store, int thread) {
  std::vector<int64_t> revisions(10, 0);
  for (size_t at = 0; at < revisions.size(); ++at) {
    const auto record = store.Load(absl::StrCat("w", thread, "/", at));
    if (record.ok()) revisions[at] = record->revision;
  }
  for (size_t round = 0;; ++round) {
    std::vector<normd::StoreMutation> mutations;
    std::string line;
    for (const size_t at : {round % 10, (round + 1) % 10}) {
      const std::string name = absl::StrCat("w", thread, "/", at);
      const int64_t revision = ++revisions[at];
      mutations.push_back(
          normd::Put(name, revision - 1, revision, normd::WriterData(name, revision)));
      absl::StrAppend(&line, line.empty() ? "" : " ", name, " ", revision);
    }
    if (const absl::Status status = store.Commit(mutations); !status.ok()) Fail(status);
    line += "\n";
    if (write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
      _exit(1);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: store_writer DIRECTORY THREADS" << std::endl;
    return 2;
  }
  auto store = normd::OpenRocksdbStateStore(normd::SmallOptions(argv[1]));
  if (!store.ok()) Fail(store.status());
  std::vector<std::thread> threads;
  for (int i = 0; i < std::atoi(argv[2]); ++i) {
    threads.emplace_back([&store, i] { Write(**store, i); });
  }
  for (std::thread& thread : threads) thread.join();
}
