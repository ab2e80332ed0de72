#ifndef NORMD_CLIENT_CLI_TEXT_H_
#define NORMD_CLIENT_CLI_TEXT_H_

#include <cstddef>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "client/cli/array.h"

// What people read: numbers and tensors as PyTorch prints them, and tables.
namespace normd::cli {

// The texts of `values`, each rounded to 4 decimals; in scientific notation when, as PyTorch
// decides, the largest magnitude is above 1e8 or above 1000 times the smallest, or the smallest is
// below 1e-4 (zeros and values that are not finite are left out of the decision).
std::vector<std::string> FormatNumbers(absl::Span<const double> values);

// The array in brackets, columns aligned; with more than 1000 elements the first and last 3 of
// each axis; without elements "[], size=(2, 0)". Ends with a newline.
std::string FormatArray(const Array& array);

// Rows of cells with aligned columns, two spaces apart. Numbers stand to the right.
class Table {
 public:
  enum class Align { kLeft, kRight };

  void AddColumn(std::string title, Align align);
  // REQUIRES: one cell a column.
  void AddRow(std::vector<std::string> cells);
  // Titles and rows, one a line, no trailing spaces.
  std::string Format() const;

 private:
  std::vector<Align> aligns_;
  std::vector<std::vector<std::string>> rows_{{}};  // titles first
};

// "1.3 k", "42", "2.5 M": three digits and a decimal prefix.
std::string FormatRate(double value);

// "0:07", "12:30", "3:02:11".
std::string FormatSeconds(double seconds);

}  // namespace normd::cli

#endif  // NORMD_CLIENT_CLI_TEXT_H_
