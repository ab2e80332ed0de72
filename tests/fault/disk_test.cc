// Disks that fail, fill up and forget.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "absl/strings/str_cat.h"
#include "client/cpp/error.h"
#include "tests/fault/fault_fixture.h"

namespace normd::testing {
namespace {

class DiskTest : public FaultTest {
 protected:
  std::string states_dir() const { return data_.path() + "/states"; }

  // Creates `name` with `num_features` channels. Fails the test when it cannot.
  static void Create(client::Client& client, const std::string& name, int64_t num_features) {
    client::StateConfig config;
    config.num_features = num_features;
    const auto state = client.CreateState(name, config);
    ASSERT_TRUE(state.ok()) << state.status();
  }

  static client::Batch ZerosAndOnes(int64_t num_features) {
    std::vector<float> values(2 * num_features, 0.0F);
    std::fill(values.begin() + num_features, values.end(), 1.0F);
    return client::Batch::Own({2, num_features}, std::move(values));
  }
};

TEST_F(DiskTest, AcknowledgesNothingAfterAFailedSync) {
  const std::string trigger = data_.path() + "/fail_sync";
  ServerOptions options;
  options.environment = {{"LD_PRELOAD", NORMD_SYNC_FAULT_LIBRARY},
                         {"NORMD_SYNC_FAULT_TRIGGER", trigger}};
  StartServer(options);
  StartLoad(4);
  const absl::Status flowing = load_->WaitForResults(Uniform(100, 1000));
  ASSERT_TRUE(flowing.ok()) << flowing;
  std::ofstream(trigger).put('x');
  const auto ended = server_->Wait(absl::Seconds(30));
  ASSERT_TRUE(ended.has_value()) << "served on after a failed sync\n" << server_->Log();
  EXPECT_NE(ended->code, 0) << server_->Log();
  CheckNothingAcknowledgedIsLost();
  StartServer();
  FinishLoadAndCheckEveryUpdateOnce();
}

// A small file system on a folder. It is in a mount namespace of this thread, which the servers
// that the thread starts inherit, so that nothing stays behind.
class SmallDisk {
 public:
  // Whether it could be mounted: that takes the right to.
  bool Mount(const std::string& folder) {
    folder_ = folder;
    std::filesystem::create_directories(folder);
    // EINVAL: in a chroot whose root is no mount point there is nothing to make private.
    mounted_ =
        ::unshare(CLONE_NEWNS) == 0 &&
        (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 || errno == EINVAL) &&
        ::mount("tmpfs", folder.c_str(), "tmpfs", 0, "size=48m") == 0;
    return mounted_;
  }
  ~SmallDisk() {
    if (mounted_) ::umount2(folder_.c_str(), MNT_DETACH);
  }

  bool Enlarge() {
    return ::mount("tmpfs", folder_.c_str(), "tmpfs", MS_REMOUNT, "size=512m") == 0;
  }

 private:
  std::string folder_;
  bool mounted_ = false;
};

TEST_F(DiskTest, RefusesWritesAndServesReadsWhileFullAndRecovers) {
  SmallDisk disk;
  ASSERT_TRUE(disk.Mount(states_dir()))
      << "this test needs the right to mount a tmpfs: " << std::strerror(errno);
  constexpr int64_t kFeatures = 65536;
  const client::Batch batch = ZerosAndOnes(kFeatures);
  StartServer();
  auto client = Connect(absl::Seconds(3));
  ASSERT_NE(client, nullptr);
  Create(*client, "disk/full", kFeatures);

  // The update that meets the full disk has been folded and waits for space; those after it are
  // refused.
  int64_t applied = 0;
  absl::Status refused;
  while (refused.ok() && applied < 1000) {
    refused = client->Train("disk/full", batch).status();
    if (refused.ok()) ++applied;
  }
  EXPECT_GT(applied, 0);
  const bool one_waits = absl::IsDeadlineExceeded(refused);
  if (one_waits) refused = client->Train("disk/full", batch).status();
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_EQ(client::ErrorReason(refused), "STORE_FULL") << refused;

  const auto full = client->GetState("disk/full");
  ASSERT_TRUE(full.ok()) << full.status();
  EXPECT_EQ(full->num_batches_tracked, applied);
  EXPECT_TRUE(client->Normalize("disk/full", batch).ok());

  ASSERT_TRUE(disk.Enlarge()) << std::strerror(errno);
  // The stream tries again until there is space.
  absl::Status answer = absl::UnknownError("no result");
  client::TrainStreamOptions options;
  options.on_result = [&answer](const client::TrainResult& result) { answer = result.status; };
  auto stream = client->OpenTrainStream(options);
  ASSERT_TRUE(stream.ok()) << stream.status();
  ASSERT_TRUE((*stream)->Send("disk/full", batch).ok());
  const absl::Status closed = (*stream)->Close();
  EXPECT_TRUE(closed.ok()) << closed << "\n" << server_->Log();
  EXPECT_TRUE(answer.ok()) << answer;

  stream->reset();
  client.reset();
  server_->Kill();
  StartServer();
  client = Connect();
  ASSERT_NE(client, nullptr);
  const auto state = client->GetState("disk/full");
  ASSERT_TRUE(state.ok()) << state.status();
  EXPECT_EQ(state->num_batches_tracked, applied + (one_waits ? 2 : 1));
  server_->Kill();
}

// The offset of `text` in the table file of `directory` that holds it; the file's path in `path`.
std::streamoff FindInTables(const std::string& directory, const std::string& text,
                            std::string& path) {
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    if (entry.path().extension() != ".sst") continue;
    const size_t offset = ReadFile(entry.path()).find(text);
    if (offset == std::string::npos) continue;
    path = entry.path();
    return static_cast<std::streamoff>(offset);
  }
  return -1;
}

TEST_F(DiskTest, AnswersDataLossForADamagedRecordAndServesTheOthers) {
  // Each record is larger than a block of a table, so that damage to one leaves the others whole.
  constexpr int64_t kFeatures = 4096;
  const std::vector<std::string> names = {"disk/first", "disk/second", "disk/third"};
  StartServer();
  auto client = Connect();
  ASSERT_NE(client, nullptr);
  for (const std::string& name : names) {
    Create(*client, name, kFeatures);
    ASSERT_TRUE(client->Train(name, ZerosAndOnes(kFeatures)).ok());
  }
  client.reset();
  // Recovery moves the records from the log to a table.
  server_->Kill();
  StartServer();
  server_->Kill();
  std::string table;
  const std::streamoff offset = FindInTables(states_dir(), "disk/second", table);
  ASSERT_GE(offset, 0) << "no table holds the record";
  {
    std::fstream file(table, std::ios::in | std::ios::out | std::ios::binary);
    const std::streamoff target = offset + kFeatures;
    file.seekg(target);
    const char byte = static_cast<char>(file.get());
    file.seekp(target);
    file.put(static_cast<char>(byte ^ 0x10));
    ASSERT_TRUE(file.good());
  }
  StartServer();
  client = Connect();
  ASSERT_NE(client, nullptr);
  const absl::Status damaged = client->GetState("disk/second").status();
  EXPECT_EQ(damaged.code(), absl::StatusCode::kDataLoss) << damaged;
  EXPECT_EQ(client::ErrorReason(damaged), "RECORD_DAMAGED") << damaged;
  EXPECT_NE(damaged.message().find("disk/second"), absl::string_view::npos) << damaged;
  const absl::Status trained = client->Train("disk/second", ZerosAndOnes(kFeatures)).status();
  EXPECT_EQ(trained.code(), absl::StatusCode::kDataLoss) << trained;
  for (const std::string& name : {names[0], names[2]}) {
    const auto state = client->GetState(name);
    ASSERT_TRUE(state.ok()) << state.status();
    EXPECT_EQ(state->num_batches_tracked, 1) << name;
    EXPECT_TRUE(client->Train(name, ZerosAndOnes(kFeatures)).ok()) << name;
  }

  // A list ends before the damage and says so; what is behind it is listed by a longer prefix.
  const auto list = [&client](const std::string& prefix, const std::string& page_token = "") {
    client::ListOptions options;
    options.prefix = prefix;
    options.page_token = page_token;
    return client->ListStates(options);
  };
  const auto before = list("disk/f");
  ASSERT_TRUE(before.ok()) << before.status();
  EXPECT_EQ(before->states.size(), 1U);
  const auto all = list("disk/");
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_EQ(all->states.size(), 1U);
  const absl::Status rest = list("disk/", all->next_page_token).status();
  EXPECT_EQ(rest.code(), absl::StatusCode::kDataLoss) << rest;
  const auto behind = list("disk/third");
  ASSERT_TRUE(behind.ok()) << behind.status();
  EXPECT_EQ(behind->states.size(), 1U);
}

TEST_F(DiskTest, RefusesASecondServerOnTheSameFolder) {
  StartServer();
  ServerOptions options;
  options.data_dir = states_dir();
  const absl::Status second = ServerProcess::Start(options).status();
  EXPECT_EQ(second.code(), absl::StatusCode::kFailedPrecondition) << second;
  EXPECT_NE(second.message().find("exit code"), absl::string_view::npos) << second;
  EXPECT_EQ(second.message().find("exit code 0"), absl::string_view::npos) << second;
  EXPECT_NE(second.message().find("in use"), absl::string_view::npos) << second;
  EXPECT_NE(second.message().find(states_dir()), absl::string_view::npos) << second;
  EXPECT_NE(Connect(), nullptr) << "the first one must serve on";
}

}  // namespace
}  // namespace normd::testing
