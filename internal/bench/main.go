package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// options are the command line.
type options struct {
	linux  string  // our kernel
	uml    string  // the classic one
	out    string  // report file
	disk   string  // image of Debian, "" to leave it out
	filter string  // only rows of ubench with this in their names
	only   bool    // only the rows of disk
	rounds int     // how often everything is measured
	budget float64 // seconds for one row
	pins   []bool  // which of the two modes
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("bench: ")
	if len(os.Args) > 2 && os.Args[1] == launchOldRegs {
		log.Fatal(execWithoutRegset(os.Args[2:]))
	}
	var o options
	flag.StringVar(&o.linux, "linux", "./linux", "the kernel to measure")
	flag.StringVar(&o.uml, "uml", "linux.uml", "the classic User Mode Linux to compare with")
	flag.StringVar(&o.out, "o", "", "write the report to this file too")
	flag.StringVar(&o.disk, "disk", "build/debian.ext4", "an image of Debian with gcc and git, for the rows of disk work; none leaves them out")
	flag.BoolVar(&o.only, "only-disk", false, "measure only the rows of disk work")
	flag.StringVar(&o.filter, "run", "", "measure only rows of ubench with this in their names")
	flag.IntVar(&o.rounds, "rounds", 3, "how often to measure")
	flag.Float64Var(&o.budget, "t", 0.2, "seconds for one row")
	pin := flag.String("pin", "both", "pin everything to one CPU: yes, no or both")
	quick := flag.Bool("quick", false, "one short round, of which warming up is a large part: for a look only")
	flag.Parse()
	if *quick {
		o.rounds, o.budget = 1, 0.04
	}
	switch *pin {
	case "yes":
		o.pins = []bool{true}
	case "no":
		o.pins = []bool{false}
	case "both":
		o.pins = []bool{false, true}
	default:
		log.Fatal("-pin is yes, no or both")
	}
	if flag.NArg() > 0 || o.rounds < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(o); err != nil {
		log.Fatal(err)
	}
}

func run(o options) error {
	dir, err := os.MkdirTemp("", "bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b, err := prepare(o, dir)
	if err != nil {
		return err
	}
	var report strings.Builder
	load := loadAverage()
	for _, pinned := range o.pins {
		var all results
		for round := range o.rounds {
			for _, s := range b.systems {
				if len(o.pins) > 1 || o.rounds > 1 {
					fmt.Fprintf(os.Stderr, "round %d of %d, pinned %v: %s\n", round+1, o.rounds, pinned, s.name)
				}
				rows, err := s.measure(pinned)
				if err != nil {
					return fmt.Errorf("%s: %w", s.name, err)
				}
				all.add(s.column, rows)
			}
		}
		title := "All CPUs"
		if pinned {
			title = "Pinned to one CPU"
		}
		fmt.Fprintf(&report, "## %s\n\n%s\n", title, all.table(pinned))
	}
	if load > float64(runtime.NumCPU())/4 {
		b.notes = append(b.notes, fmt.Sprintf("The machine was busy (load average %.1f at the start): compare only what differs by much.", load))
	}
	for _, n := range b.notes {
		fmt.Fprintf(&report, "%s\n", n)
	}
	fmt.Print(report.String())
	if o.out == "" {
		return nil
	}
	return os.WriteFile(filepath.Clean(o.out), []byte(report.String()), 0o644)
}

// loadAverage is how many threads wanted a CPU in the last minute, 0 if that is not known; proc_loadavg(5).
func loadAverage() (avg float64) {
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, _ = fmt.Sscan(string(text), &avg)
	}
	return avg
}
