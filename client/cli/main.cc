#include "client/cli/command_line.h"

int main(int argc, char** argv) { return normd::cli::RunCommandLine(argc, argv); }
