#ifndef NORMD_TESTS_TESTING_TEMP_DIR_H_
#define NORMD_TESTS_TESTING_TEMP_DIR_H_

#include <string>

namespace normd::testing {

// A fresh folder, gone with the object and all that is in it. Ends the process when it cannot be
// made.
class TempDir {
 public:
  TempDir();
  ~TempDir();

  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;

  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace normd::testing

#endif  // NORMD_TESTS_TESTING_TEMP_DIR_H_
