// A process that commits is killed at random moments; what it acknowledged is there.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <map>
#include <memory>
#include <sstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "tests/core/store/store_test_util.h"
#include "tests/testing/seeded_random.h"

namespace normd {
namespace {

constexpr int kCycles = 20;
constexpr int kThreads = 3;

// Runs store_writer and kills it once it has acknowledged `commits_min` commits. Returns all that
// it wrote, without a line cut short.
std::string RunAndKill(const std::string& directory, int commits_min) {
  int ends[2];
  EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const std::string threads = absl::StrCat(kThreads);
  const pid_t writer = fork();
  if (writer == 0) {
    dup2(ends[1], STDOUT_FILENO);
    execl(NORMD_STORE_WRITER, NORMD_STORE_WRITER, directory.c_str(), threads.c_str(), nullptr);
    _exit(127);
  }
  close(ends[1]);
  std::string output;
  int commits = 0;
  char buffer[512];
  ssize_t size = 0;
  bool killed = false;
  while ((size = read(ends[0], buffer, sizeof(buffer))) > 0 || (size < 0 && errno == EINTR)) {
    for (ssize_t i = 0; i < size; ++i) commits += buffer[i] == '\n' ? 1 : 0;
    if (size > 0) output.append(buffer, static_cast<size_t>(size));
    if (!killed && commits >= commits_min) {
      EXPECT_EQ(kill(writer, SIGKILL), 0);
      killed = true;
    }
  }
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(writer, &status, 0), writer);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
      << "the writer ended by itself: " << status;
  output.resize(output.rfind('\n') + 1);
  return output;
}

TEST(RocksdbCrashTest, AKilledProcessLosesNothingItAcknowledged) {
  SeededRandom generator;
  const TempFolder folder;
  const std::string data = folder.Child("data");
  std::map<std::string, int64_t> acknowledged;
  for (int cycle = 0; cycle < kCycles; ++cycle) {
    SCOPED_TRACE(absl::StrCat("cycle ", cycle));
    std::istringstream output(RunAndKill(data, 1 + static_cast<int>(generator() % 700)));
    std::string name;
    int64_t revision = 0;
    while (output >> name >> revision) acknowledged[name] = revision;

    const std::unique_ptr<StateStore> store = OpenOrDie(data);
    ASSERT_FALSE(acknowledged.empty());
    std::map<std::string, int64_t> ahead;  // by thread: commits made and not acknowledged
    for (const StoredRecord& record : ListAll(*store)) {
      EXPECT_TRUE(record.data == WriterData(record.name, record.revision)) << record.name;
      const int64_t unacknowledged = record.revision - acknowledged[record.name];
      EXPECT_GE(unacknowledged, 0) << record.name << " lost what was acknowledged";
      ahead[record.name.substr(0, record.name.find('/'))] += unacknowledged;
      acknowledged[record.name] = record.revision;
    }
    EXPECT_EQ(ListAll(*store).size(), acknowledged.size());
    for (const auto& [thread, revisions] : ahead) {
      EXPECT_TRUE(revisions == 0 || revisions == 2)
          << thread
          << ": one commit of two names was under way, and it is made whole or not at all";
    }
  }
}

}  // namespace
}  // namespace normd
