package main

import (
	"fmt"
	"slices"
	"strings"
)

// Columns of the table.
const (
	host = iota
	classic
	ours
	columns
)

// bar is what the project promises of a row: limits of the ratio to the host and to linux.uml and of the value itself; 0 is
// no limit.
type bar struct {
	host, classic, value float64
}

var bars = map[string]bar{
	"getppid":             {classic: 0.5},
	"read_zero_1":         {classic: 0.5},
	"stat":                {classic: 0.5},
	"open_close":          {classic: 0.5},
	"anon_page_fault":     {classic: 0.06, host: 1.3},
	"fork_exit_wait":      {classic: 0.3},
	"fork_exec_wait":      {classic: 0.2},
	"vfork_exec_wait":     {classic: 0.2},
	"system_sh_true":      {classic: 0.2},
	"pthread_create_join": {classic: 0.4},
	"futex_pingpong":      {classic: 0.2, host: 1.5},
	"pipe_pingpong":       {classic: 0.7},
	"clock_gettime":       {classic: 0.02, host: 1.3},
	"memcpy_bw":           {classic: 1, host: 1.3},
	"cpu_1000_ops":        {classic: 1, host: 1.3},
	"smp_2x_cpu_1000_ops": {classic: 1, host: 1.2},
	"boot_exec_true":      {classic: 0.25},
	"boot_rss":            {value: 60},

	"disk_untar":               {classic: 0.3},
	"disk_find":                {classic: 0.3},
	"disk_create_write_unlink": {classic: 0.3},
	"disk_file_read_bw":        {classic: 1, host: 1.5},
	"disk_file_write_bw":       {classic: 1, host: 1.5},
	"disk_seq_read_128k":       {classic: 1, host: 1.5},
	"disk_seq_write_128k":      {classic: 1, host: 1.5},
	"disk_gcc":                 {classic: 0.12, host: 1.8},
	"disk_boot_login":          {classic: 0.35},

	"sleepers_slowdown": {value: 1.3},
	// How much these differ between kernels only tells how they schedule.
	"getppid_1000_sleepers": {},
	"getppid_8_loopers":     {},
}

// anyRow is the bar of rows without one of their own: nothing is slower than in linux.uml.
var anyRow = bar{classic: 1}

// results collects the values of all rounds.
type results struct {
	names  []string // in the order in which they were first seen
	units  map[string]string
	values map[string][columns][]float64
}

func (r *results) add(column int, rows []row) {
	if r.units == nil {
		r.units, r.values = map[string]string{}, map[string][columns][]float64{}
	}
	for _, w := range rows {
		if _, ok := r.units[w.name]; !ok {
			r.names = append(r.names, w.name)
			r.units[w.name] = w.unit
		}
		v := r.values[w.name]
		v[column] = append(v[column], w.value)
		r.values[w.name] = v
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	return (s[(len(s)-1)/2] + s[len(s)/2]) / 2
}

// cell shows the median and the range of some values.
func cell(v []float64) string {
	switch len(v) {
	case 0:
		return ""
	case 1:
		return number(v[0])
	}
	return fmt.Sprintf("%s (%s-%s)", number(median(v)), number(slices.Min(v)), number(slices.Max(v)))
}

func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// ratio returns how many times the time of b the time of a is, or 0 if one is not known.
func ratio(unit string, a, b []float64) float64 {
	x, y := median(a), median(b)
	if x == 0 || y == 0 {
		return 0
	}
	if unit == "MB/s" {
		return y / x
	}
	return x / y
}

// verdict holds a row against its bar.
func verdict(name string, value, toHost, toClassic float64) string {
	want, ok := bars[name]
	if !ok {
		want = anyRow
	}
	var text []string
	fail := false
	check := func(what string, limit, got float64) {
		if limit == 0 || got == 0 {
			return
		}
		text = append(text, fmt.Sprintf("%s%.3g", what, limit))
		fail = fail || got > limit
	}
	check("host ", want.host, toHost)
	check("uml ", want.classic, toClassic)
	check("", want.value, value)
	switch {
	case len(text) == 0:
		return ""
	case fail:
		return "FAIL " + strings.Join(text, ", ")
	}
	return "ok " + strings.Join(text, ", ")
}

// table returns the results in Markdown. Bars on scaling over CPUs mean nothing when there is one.
func (r *results) table(pinned bool) string {
	cells := [][]string{{"row", "unit", "host", "linux.uml", "ours", "ours/host", "ours/uml", "bar"}}
	for _, name := range r.names {
		v, unit := r.values[name], r.units[name]
		toHost, toClassic := ratio(unit, v[ours], v[host]), ratio(unit, v[ours], v[classic])
		check := verdict(name, median(v[ours]), toHost, toClassic)
		if pinned && strings.HasPrefix(name, "smp_") {
			check = ""
		}
		if len(v[ours]) == 0 {
			check = "skipped"
		}
		cells = append(cells, []string{name, unit, cell(v[host]), cell(v[classic]), cell(v[ours]), blankZero(toHost), blankZero(toClassic), check})
	}
	width := make([]int, len(cells[0]))
	for _, line := range cells {
		for i, c := range line {
			width[i] = max(width[i], len(c))
		}
	}
	var out strings.Builder
	for n, line := range cells {
		for i, c := range line {
			fmt.Fprintf(&out, "| %-*s ", width[i], c)
		}
		out.WriteString("|\n")
		if n == 0 {
			for _, w := range width {
				out.WriteString("|" + strings.Repeat("-", w+2))
			}
			out.WriteString("|\n")
		}
	}
	return out.String()
}

func blankZero(v float64) string {
	if v == 0 {
		return ""
	}
	return number(v)
}
