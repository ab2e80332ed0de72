#include "client/cli/array_reader.h"

#include <sys/stat.h>

#include <cmath>
#include <cstring>
#include <fstream>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "client/cli/array_writer.h"
#include "client/cli/npy_header.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/cli/test_files.h"

namespace normd::cli {
namespace {

using ::normd::client::DataType;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename T>
std::string Bytes(const std::vector<T>& values) {
  return std::string(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

std::string Npy(const std::vector<int64_t>& shape, const std::vector<float>& values) {
  return FormatNpyHeader(shape, DataType::kFloat32) + Bytes(values);
}

// The message of the first error met while reading all of `path`; empty when there is none.
std::string FirstError(const std::string& path) {
  auto reader = ArrayReader::Open(path);
  if (!reader.ok()) return std::string(reader.status().message());
  while (true) {
    const auto shape = (*reader)->NextArray();
    if (!shape.ok()) return std::string(shape.status().message());
    if (!shape->has_value()) return "";
    const auto array = (*reader)->ReadRows((*reader)->rows_left());
    if (!array.ok()) return std::string(array.status().message());
  }
}

class ArrayReaderTest : public testing::Test {
 protected:
  TestFolder folder_;
};

TEST_F(ArrayReaderTest, ReadsRowsInPieces) {
  const std::string path = folder_.Write("a.npy", Npy({3, 2}, {1, 2, 3, 4, 5, 6}));
  auto reader = ArrayReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  const auto shape = (*reader)->NextArray();
  ASSERT_TRUE(shape.ok()) << shape.status();
  EXPECT_THAT(**shape, ElementsAre(3, 2));
  const auto first = (*reader)->ReadRows(2);
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_THAT(first->shape, ElementsAre(2, 2));
  EXPECT_THAT(ToDoubles(*first), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ((*reader)->rows_left(), 1);
  const auto second = (*reader)->ReadRows(1);
  ASSERT_TRUE(second.ok()) << second.status();
  EXPECT_THAT(ToDoubles(*second), ElementsAre(5, 6));
  EXPECT_FALSE((*reader)->NextArray()->has_value());
}

TEST_F(ArrayReaderTest, ReadsSeveralArraysAndRewinds) {
  const std::string path = folder_.Write("a.npy", Npy({1, 2}, {1, 2}) + Npy({2, 1}, {3, 4}));
  auto reader = ArrayReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  for (int epoch = 0; epoch < 2; ++epoch) {
    EXPECT_THAT(**(*reader)->NextArray(), ElementsAre(1, 2));
    EXPECT_THAT(ToDoubles(*(*reader)->ReadRows(1)), ElementsAre(1, 2));
    EXPECT_THAT(**(*reader)->NextArray(), ElementsAre(2, 1));
    EXPECT_THAT(ToDoubles(*(*reader)->ReadRows(2)), ElementsAre(3, 4));
    EXPECT_FALSE((*reader)->NextArray()->has_value());
    ASSERT_TRUE((*reader)->Rewind().ok());
  }
}

TEST_F(ArrayReaderTest, KeepsTheDtypeOfTheFile) {
  const std::vector<double> values = {0.1, 2, -std::numeric_limits<double>::infinity()};
  for (const DataType dtype : {DataType::kFloat16, DataType::kFloat32, DataType::kFloat64}) {
    const Array array = *Convert(MakeArray({1, 3}, values), dtype);
    const std::string path =
        folder_.Write("a.npy", FormatNpyHeader(array.shape, dtype) + array.bytes);
    auto reader = ArrayReader::Open(path);
    ASSERT_TRUE(reader.ok()) << reader.status();
    ASSERT_TRUE((*reader)->NextArray().ok());
    const auto read = (*reader)->ReadRows(1);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->dtype, dtype);
    EXPECT_EQ(read->bytes, array.bytes);
    EXPECT_FALSE((*reader)->is_text());
  }
}

TEST_F(ArrayReaderTest, RefusesTruncationAtEveryByte) {
  const std::string whole = Npy({2, 2}, {1, 2, 3, 4});
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_NE(FirstError(folder_.Write("a.npy", whole.substr(0, size))), "") << size;
  }
  EXPECT_EQ(FirstError(folder_.Write("a.npy", whole)), "");
  EXPECT_THAT(FirstError(folder_.Write("a.npy", whole.substr(0, whole.size() - 1))),
              HasSubstr("shape (2, 2) of float32 needs 16 bytes, got 15"));
}

TEST_F(ArrayReaderTest, RefusesAHugeShapeWithoutAllocatingIt) {
  EXPECT_THAT(FirstError(folder_.Write("a.npy", Npy({int64_t{1} << 58, 4}, {1}))),
              HasSubstr("truncated"));
}

TEST_F(ArrayReaderTest, RefusesAHugeShapeFromAPipeWithoutAllocatingIt) {
  const std::string path = folder_.Path("pipe");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::thread writer([&] {
    std::ofstream(path, std::ios::binary) << Npy({int64_t{1} << 58, 4}, {1, 2, 3});
  });
  EXPECT_THAT(FirstError(path), HasSubstr("got 12"));
  writer.join();
}

TEST_F(ArrayReaderTest, ReadsMoreThanOneStepFromAPipe) {
  std::vector<float> values(2500000);
  for (size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1000);
  const std::string path = folder_.Path("pipe");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  std::thread writer([&] { std::ofstream(path, std::ios::binary) << Npy({2500, 1000}, values); });
  auto reader = ArrayReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  ASSERT_TRUE((*reader)->NextArray().ok());
  const auto array = (*reader)->ReadRows(2500);
  writer.join();
  ASSERT_TRUE(array.ok()) << array.status();
  EXPECT_TRUE(array->bytes == Bytes(values));
  EXPECT_FALSE((*reader)->Rewind().ok());
}

TEST_F(ArrayReaderTest, RefusesWhatIsNoArray) {
  EXPECT_THAT(FirstError(folder_.Write("a", "")), HasSubstr("is empty"));
  EXPECT_THAT(FirstError(folder_.Write("a", "PK\3\4 zip")), HasSubstr("expected a .npy array"));
  EXPECT_THAT(FirstError(folder_.Write("a", "{\"a\": 1}")), HasSubstr("expected a .npy array"));
  EXPECT_THAT(FirstError(folder_.Path("none")), HasSubstr("No such file"));
  EXPECT_THAT(FirstError(folder_.Path("")), HasSubstr("is a directory"));
  EXPECT_THAT(FirstError(folder_.Write("a", Npy({1, 1}, {1}) + "more")),
              HasSubstr("got other bytes"));
}

TEST_F(ArrayReaderTest, RefusesOtherVersionsAndHugeHeaders) {
  const std::string magic(kNpyMagic);
  EXPECT_THAT(FirstError(folder_.Write("a", magic + std::string("\x04\x00", 2))),
              HasSubstr("version 4.0"));
  EXPECT_THAT(FirstError(folder_.Write("a", magic + std::string("\x02\x00\xff\xff\xff\x7f", 6))),
              HasSubstr("2147483647 bytes"));
}

TEST_F(ArrayReaderTest, RefusesAnArrayWithoutAnAxis) {
  EXPECT_THAT(FirstError(folder_.Write("a.npy", Npy({}, {1}))), HasSubstr("shape ()"));
}

TEST_F(ArrayReaderTest, ReadsAnEmptyArrayWithHugeAxes) {
  EXPECT_EQ(FirstError(folder_.Write("a", Npy({0, int64_t{1} << 62, int64_t{1} << 62}, {}))), "");
}

TEST_F(ArrayReaderTest, ReadsJsonAfterBlanks) {
  const std::string path = folder_.Write("a.json", "\n  [[1, 2.5], [-3e2, \"NaN\"]]\n");
  auto reader = ArrayReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_THAT(**(*reader)->NextArray(), ElementsAre(2, 2));
  EXPECT_THAT(ToDoubles(*(*reader)->ReadRows(1)), ElementsAre(1, 2.5));
  const std::vector<double> row = ToDoubles(*(*reader)->ReadRows(1));
  EXPECT_EQ(row[0], -300);
  EXPECT_TRUE(std::isnan(row[1]));
  EXPECT_TRUE((*reader)->is_text());
  EXPECT_FALSE((*reader)->NextArray()->has_value());
}

TEST_F(ArrayReaderTest, ReadsVectorsExactly) {
  const std::string path = folder_.Path("v.npy");
  const std::vector<double> values = {0.1, 1e300, -3};
  ASSERT_TRUE(WriteNpyFile(path, MakeArray({3}, values)).ok());
  const auto read = ReadVectorFile(path);
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_EQ(*read, values);
  EXPECT_THAT(ReadVectorFile(folder_.Write("m.npy", Npy({1, 2}, {1, 2}))).status().message(),
              HasSubstr("has shape (1, 2), expected one axis"));
  EXPECT_THAT(*ReadValuesFile(folder_.Write("m.npy", Npy({1, 2}, {1, 2}))), ElementsAre(1, 2));
  EXPECT_THAT(
      ReadVectorFile(folder_.Write("v2.npy", Npy({1}, {1}) + Npy({1}, {1}))).status().message(),
      HasSubstr("expected one array, got more"));
}

TEST_F(ArrayReaderTest, NumpyAndNormctlReadWhatTheOtherWrites) {
  const ProcessResult written = RunShell(
      folder_,
      absl::StrCat("cd '", folder_.Path(""),
                   "' && /usr/bin/python3 -c \"import numpy as np; from numpy.lib import format\n"
                   "a = np.arange(24, dtype='f4').reshape(2, 3, 4) / 7\n"
                   "for v in (1, 2, 3): format.write_array(open(f'v{v}.npy', 'wb'), a, (v, 0))\n"
                   "np.save('f8.npy', a.astype('f8')); "
                   "np.save('f2.npy', a.astype('f2')); np.save('fortran.npy', "
                   "np.asfortranarray(a))\n"
                   "np.save('i8.npy', np.arange(3))\""));
  ASSERT_EQ(written.exit_code, 0) << written.error;
  for (const char* name : {"v1.npy", "v2.npy", "v3.npy", "f8.npy", "f2.npy"}) {
    auto reader = ArrayReader::Open(folder_.Path(name));
    ASSERT_TRUE(reader.ok()) << reader.status();
    EXPECT_THAT(**(*reader)->NextArray(), ElementsAre(2, 3, 4));
    const auto array = (*reader)->ReadRows(2);
    ASSERT_TRUE(array.ok()) << array.status();
    const double tolerance = array->dtype == DataType::kFloat16 ? 1e-3 : 0;
    const std::vector<double> values = ToDoubles(*array);
    for (size_t i = 0; i < 24; ++i) {
      EXPECT_NEAR(values[i], static_cast<float>(i) / 7, tolerance) << name;
    }
  }
  EXPECT_THAT(FirstError(folder_.Path("fortran.npy")), HasSubstr("Fortran order"));
  EXPECT_THAT(FirstError(folder_.Path("i8.npy")), HasSubstr("dtype '<i8'"));

  {
    auto writer = ArrayWriter::Open(folder_.Path("ours.npy"), ArrayFormat::kNpy);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->BeginArray({2, 2}, DataType::kFloat32).ok());
    ASSERT_TRUE((*writer)->Write(Bytes<float>({1.5f, 2, 3})).ok());
    ASSERT_TRUE((*writer)->Write(Bytes<float>({4})).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  const Array doubles = MakeArray({2}, std::vector<double>{0.1, 1e300});
  ASSERT_TRUE(WriteNpyFile(folder_.Path("ours8.npy"), doubles).ok());
  const Array floats = MakeArray({2}, std::vector<float>{1.5f, -2});
  ASSERT_TRUE(WriteNpyFile(folder_.Path("ours2.npy"), *Convert(floats, DataType::kFloat16)).ok());
  ASSERT_TRUE(WriteNpyFile(folder_.Path("oursb.npy"), *Convert(floats, DataType::kBfloat16)).ok());
  const ProcessResult read = RunShell(
      folder_, absl::StrCat("cd '", folder_.Path(""),
                            "' && /usr/bin/python3 -c \"import numpy as np\n"
                            "print(np.load('ours.npy').dtype, np.load('ours.npy').tolist())\n"
                            "for name in ('ours8', 'ours2', 'oursb'):\n"
                            "    print(np.load(name + '.npy').dtype, "
                            "np.load(name + '.npy').tolist())\""));
  EXPECT_EQ(read.out,
            "float32 [[1.5, 2.0], [3.0, 4.0]]\nfloat64 [0.1, 1e+300]\nfloat16 [1.5, -2.0]\n"
            "float32 [1.5, -2.0]\n")
      << read.error;
}

TEST_F(ArrayReaderTest, WriterLeavesNothingWhenItIsNotFinished) {
  const std::string path = folder_.Write("out.npy", "before");
  {
    auto writer = ArrayWriter::Open(path, ArrayFormat::kNpy);
    ASSERT_TRUE(writer.ok()) << writer.status();
    ASSERT_TRUE((*writer)->BeginArray({2}, DataType::kFloat32).ok());
  }
  EXPECT_EQ(folder_.Read("out.npy"), "before");
  EXPECT_EQ(RunShell(folder_, absl::StrCat("ls '", folder_.Path(""), "'")).out,
            "out.npy\nstderr\nstdout\n");
}

TEST_F(ArrayReaderTest, WriterTellsAFullDisk) {
  auto writer = ArrayWriter::Open("/dev/full", ArrayFormat::kNpy);
  ASSERT_TRUE(writer.ok()) << writer.status();
  ASSERT_TRUE((*writer)->BeginArray({2}, DataType::kFloat32).ok());
  ASSERT_TRUE((*writer)->Write(Bytes<float>({1, 2})).ok());
  EXPECT_THAT((*writer)->Finish().message(), HasSubstr("No space left"));
}

}  // namespace
}  // namespace normd::cli
