#include "tests/core/store/writer_process.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <sstream>

#include "absl/strings/str_cat.h"
#include "tests/core/store/store_test_util.h"

namespace normd {
namespace {

constexpr const char* kThreads = "3";

}  // namespace

void RunAndKill(const WriterRun& run, std::map<std::string, int64_t>& acknowledged) {
  int ends[2];
  ASSERT_EQ(pipe2(ends, O_CLOEXEC), 0);
  const pid_t writer = fork();
  if (writer == 0) {
    dup2(ends[1], STDOUT_FILENO);
    for (const std::string& variable : run.environment) putenv(strdup(variable.c_str()));
    execl(NORMD_STORE_WRITER, NORMD_STORE_WRITER, run.directory.c_str(), kThreads, nullptr);
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
    if (!killed && commits >= run.commits_min) {
      if (run.before_kill) run.before_kill(writer);
      EXPECT_EQ(kill(writer, SIGKILL), 0);
      killed = true;
    }
  }
  close(ends[0]);
  int status = 0;
  EXPECT_EQ(waitpid(writer, &status, 0), writer);
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
      << "the writer ended by itself: " << status;
  output.resize(output.rfind('\n') + 1);  // without a line cut short
  std::istringstream words(output);
  std::string name;
  int64_t revision = 0;
  while (words >> name >> revision) acknowledged[name] = revision;
  ASSERT_FALSE(acknowledged.empty());
}

std::string FindLoss(const StateStore& store, std::map<std::string, int64_t>& acknowledged) {
  std::map<std::string, int64_t> ahead;  // by thread: commits made and not acknowledged
  std::map<std::string, int64_t> found;
  for (const StoredRecord& record : ListAll(store)) {
    if (record.data != WriterData(record.name, record.revision)) {
      return absl::StrCat(record.name, " holds the data of another revision");
    }
    ahead[record.name.substr(0, record.name.find('/'))] +=
        record.revision - acknowledged[record.name];
    found[record.name] = record.revision;
  }
  for (const auto& [name, revision] : acknowledged) {
    if (found[name] < revision) {
      return absl::StrCat(name, " is at revision ", found[name], " and was acknowledged at ",
                          revision);
    }
  }
  for (const auto& [thread, revisions] : ahead) {
    if (revisions != 0 && revisions != 2) {
      return absl::StrCat(thread, " has ", revisions, " changes that were not acknowledged: one ",
                          "commit of two was under way, and is made whole or not at all");
    }
  }
  acknowledged = found;
  return "";
}

}  // namespace normd
