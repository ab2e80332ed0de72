#ifndef NORMD_TESTS_CLIENT_CLI_TEST_FILES_H_
#define NORMD_TESTS_CLIENT_CLI_TEST_FILES_H_

#include <string>

#include "absl/strings/string_view.h"

namespace normd::cli {

// A folder of its own for a test, removed with everything in it at the end.
class TestFolder {
 public:
  TestFolder();
  ~TestFolder();
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  std::string Path(absl::string_view name) const;
  // Writes a file and returns its path.
  std::string Write(absl::string_view name, absl::string_view bytes) const;
  std::string Read(absl::string_view name) const;

 private:
  std::string path_;
};

// What a process printed and how it ended.
struct ProcessResult {
  int exit_code = -1;  // -1 when a signal ended it
  std::string out;
  std::string error;
};

// Runs `command` by the shell, with standard input as the command says.
ProcessResult RunShell(const TestFolder& folder, const std::string& command);

}  // namespace normd::cli

#endif  // NORMD_TESTS_CLIENT_CLI_TEST_FILES_H_
