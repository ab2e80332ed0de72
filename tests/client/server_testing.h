#ifndef NORMD_TESTS_CLIENT_SERVER_TESTING_H_
#define NORMD_TESTS_CLIENT_SERVER_TESTING_H_

#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "tests/testing/server_process.h"
#include "tests/testing/temp_dir.h"

namespace normd::client {

// A server on a data folder in `folder` and always the same socket. Null when it does not serve,
// which fails the test.
inline std::unique_ptr<normd::testing::ServerProcess> StartServerIn(
    const normd::testing::TempDir& folder) {
  normd::testing::ServerOptions options;
  options.data_dir = folder.path() + "/data";
  options.listen = {absl::StrCat("unix:", folder.path(), "/normd.sock")};
  auto server = normd::testing::ServerProcess::Start(options);
  EXPECT_TRUE(server.ok()) << server.status();
  return server.ok() ? *std::move(server) : nullptr;
}

}  // namespace normd::client

#endif  // NORMD_TESTS_CLIENT_SERVER_TESTING_H_
