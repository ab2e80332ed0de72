#include "tests/testing/temp_dir.h"

#include <stdlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <system_error>

namespace normd::testing {

TempDir::TempDir() {
  path_ = (std::filesystem::temp_directory_path() / "normd_test_XXXXXX").string();
  if (::mkdtemp(path_.data()) == nullptr) {
    std::cerr << "cannot make the folder " << path_ << ": " << std::strerror(errno) << "\n";
    std::abort();
  }
}

TempDir::~TempDir() {
  std::error_code error;
  std::filesystem::remove_all(path_, error);
  if (error) std::cerr << "cannot remove " << path_ << ": " << error.message() << "\n";
}

}  // namespace normd::testing
