"""What compare.py measured, as a picture: messages a second in percent of the echo's."""

from xml.sax.saxutils import escape

import compare_report

WIDTH = 960
MARGIN = 24
HEAD = 92
PANEL_WIDTH = (WIDTH - 3 * MARGIN) / 2
PANEL_HEIGHT = 236
AXIS_LEFT = 44
PLOT_TOP = 34
PLOT_HEIGHT = 140
PERCENT_MAX = 130

INK, MUTED, GRID = "#1f2933", "#66727f", "#e3e7eb"
COLORS = {"normd": "#2563c9", "Python": "#d97b1f"}

PANELS = [("normalize", True, "Normalize, pipelined"),
          ("normalize", False, "Normalize, one in flight"),
          ("train", True, "Train with values, pipelined")]


def text(x, y, content, size=12, color=INK, anchor="start", weight="normal"):
    # The white stroke behind the letters keeps them readable on lines.
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" fill="{color}" stroke="#ffffff" '
            f'stroke-width="3" paint-order="stroke" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(content)}</text>\n')


def rule(x1, x2, y, color, dash=""):
    return (f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{color}" '
            f'stroke-dasharray="{dash}"/>\n')


def bar(x, width, base, height, name):
    return (f'<rect class="{name}" x="{x:.1f}" y="{base - height:.1f}" width="{width:.1f}" '
            f'height="{height:.1f}" rx="1.5" fill="{COLORS[name]}"/>\n')


def panel(left, top, title, samples, cells):
    """One plot: for each payload a bar a server, the echo as the line at 100 %."""
    x0, x1 = left + AXIS_LEFT, left + PANEL_WIDTH
    base = top + PLOT_TOP + PLOT_HEIGHT
    drawn = text(left, top + 14, title, size=14, weight="bold")
    for percent in (0, 25, 50, 75):
        y = base - PLOT_HEIGHT * percent / PERCENT_MAX
        drawn += rule(x0, x1, y, GRID) + text(x0 - 6, y + 4, f"{percent} %", 11, MUTED, "end")
    y = base - PLOT_HEIGHT * 100 / PERCENT_MAX
    drawn += rule(x0, x1, y, INK, "4 3") + text(x0 - 6, y + 4, "100 %", 11, INK, "end")
    step = (x1 - x0) / len(cells)
    width = step * 0.34
    for i, cell in enumerate(cells):
        turns = samples[cell]
        center = x0 + step * (i + 0.5)
        for name, x in (("normd", center - width - 2), ("Python", center + 2)):
            share = min(100 * compare_report.ratio(turns, name, "echo", "rate"), PERCENT_MAX)
            height = PLOT_HEIGHT * share / PERCENT_MAX
            rate = compare_report.figure(compare_report.median(turns, name, "rate"))
            drawn += bar(x, width, base, height, name)
            drawn += text(x + width / 2, base - height - 4, rate, 10, INK, "middle")
        echo = compare_report.figure(compare_report.median(turns, "echo", "rate"))
        drawn += text(center, base + 16, compare_report.floats(cell.floats), 12, INK, "middle")
        drawn += text(center, base + 31, f"echo {echo}", 10, MUTED, "middle")
    return drawn


def legend(y):
    x, drawn = MARGIN, ""
    for name, words in (("normd", "normd"), ("Python", "Python: grpcio and PyTorch")):
        drawn += (f'<rect x="{x}" y="{y - 10}" width="12" height="12" rx="1.5" '
                  f'fill="{COLORS[name]}"/>\n' + text(x + 18, y, words))
        x += 18 + 8 * len(words) + 16
    return drawn + rule(x, x + 26, y - 4, INK, "4 3") + text(x + 32, y, "bare gRPC echo = 100 %")


def svg(samples, machine):
    """The picture; for TCP on the left, for unix sockets on the right."""
    height = HEAD + len(PANELS) * PANEL_HEIGHT
    drawn = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
             f'width="{WIDTH}" height="{height}" font-family="Helvetica, Arial, sans-serif">\n'
             f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>\n')
    drawn += text(MARGIN, 32, "Messages a second, in percent of a bare gRPC echo's", 18,
                  weight="bold")
    drawn += text(MARGIN, 52, f"by float32 values in a message; above the bars messages a second. "
                              f"{machine}", 12, MUTED)
    drawn += legend(76)
    for row, (workload, is_pipelined, title) in enumerate(PANELS):
        cells = compare_report.cells_of(samples, workload, is_pipelined)
        for column, transport in enumerate(("TCP", "unix")):
            drawn += panel(MARGIN + column * (PANEL_WIDTH + MARGIN), HEAD + row * PANEL_HEIGHT,
                           f"{title}, {transport}{' socket' if transport == 'unix' else ''}",
                           samples, [cell for cell in cells if cell.transport == transport])
    return drawn + "</svg>\n"
