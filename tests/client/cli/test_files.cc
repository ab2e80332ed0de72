#include "tests/client/cli/test_files.h"

#include <sys/wait.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/strings/str_cat.h"

namespace normd::cli {

TestFolder::TestFolder() {
  path_ = (std::filesystem::temp_directory_path() / "normctl_test_XXXXXX").string();
  if (mkdtemp(path_.data()) == nullptr) std::abort();
}

TestFolder::~TestFolder() { std::filesystem::remove_all(path_); }

std::string TestFolder::Path(absl::string_view name) const {
  return absl::StrCat(path_, "/", name);
}

std::string TestFolder::Write(absl::string_view name, absl::string_view bytes) const {
  std::ofstream(Path(name), std::ios::binary) << bytes;
  return Path(name);
}

std::string TestFolder::Read(absl::string_view name) const {
  std::ifstream file(Path(name), std::ios::binary);
  std::ostringstream bytes;
  bytes << file.rdbuf();
  return bytes.str();
}

ProcessResult RunShell(const TestFolder& folder, const std::string& command) {
  const int status = std::system(absl::StrCat("( ", command, " ) >'", folder.Path("stdout"),
                                              "' 2>'", folder.Path("stderr"), "'")
                                     .c_str());
  return ProcessResult{WIFEXITED(status) ? WEXITSTATUS(status) : -1, folder.Read("stdout"),
                       folder.Read("stderr")};
}

}  // namespace normd::cli
