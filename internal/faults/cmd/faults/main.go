// Command faults runs a cluster of real brokers through real faults, under load, and says what clients saw that must
// not be. It exits with 0 if there was nothing, with 1 if there was, with 2 if it could not run, and with 3 if this machine
// permits no network namespaces.
//
//	go run ./internal/faults/cmd/faults                        every fault by itself, 30 s each
//	go run ./internal/faults/cmd/faults --fault kill --for 5m  one of them
//	go run ./internal/faults/cmd/faults --together --for 10m   all of them in one run
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/sequitur-mq/sequitur/internal/faults"
)

func main() {
	code, ran, err := faults.Isolate()
	if err != nil {
		code = fail(err)
		if errors.Is(err, faults.ErrNotPermitted) {
			code = 3
		}
		os.Exit(code)
	}
	if !ran {
		code = run()
	}
	os.Exit(code)
}

type settings struct {
	fault     string
	together  bool
	json      bool
	keep      bool
	binary    string
	directory string
	o         faults.Options
}

func parse() settings {
	var s settings
	var names []string
	for _, f := range faults.Faults() {
		names = append(names, fmt.Sprintf("  %-12s %s", f.Name, f.What))
	}
	flag.StringVar(&s.fault, "fault", "", "only these, separated by commas")
	flag.BoolVar(&s.together, "together", false, "one run in which each injection is any of them")
	flag.BoolVar(&s.json, "json", false, "print one JSON object per run")
	flag.BoolVar(&s.keep, "keep", false, "keep the directories of runs that found something")
	flag.StringVar(&s.binary, "binary", "", "a broker built with -tags faults (default: build it)")
	flag.StringVar(&s.directory, "dir", "", "where to put directories (default: the system's for temporary files)")
	flag.DurationVar(&s.o.Duration, "for", 30*time.Second, "how long each run injects faults")
	flag.DurationVar(&s.o.Hold, "hold", 1500*time.Millisecond, "about how long one fault lasts")
	flag.DurationVar(&s.o.Patience, "patience", time.Minute, "after this time without progress something is stuck")
	flag.IntVar(&s.o.Rate, "rate", 2000, "records a second")
	flag.IntVar(&s.o.Brokers, "brokers", 3, "brokers")
	flag.IntVar(&s.o.Partitions, "partitions", 8, "partitions of the topic")
	flag.Uint64Var(&s.o.Seed, "seed", uint64(time.Now().UnixNano()), "what goes wrong when follows from it (the timing of processes does not)")
	flag.Usage = func() {
		fmt.Fprintf(os.Stderr, "usage: faults [flags]\n\nfaults:\n%s\n\nflags:\n", strings.Join(names, "\n"))
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	return s
}

func run() int {
	s := parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	base, err := os.MkdirTemp(s.directory, "faults")
	if err != nil {
		return fail(err)
	}
	defer os.Remove(base) // unless something was kept
	if s.o.Binary = s.binary; s.o.Binary == "" {
		fmt.Fprintln(os.Stderr, "building the broker")
		if s.o.Binary, err = faults.Build(ctx, base); err != nil {
			return fail(err)
		}
		defer os.Remove(s.o.Binary)
	}
	runs, err := s.runs()
	if err != nil {
		return fail(err)
	}
	code := 0
	for n, list := range runs {
		s.o.Dir, s.o.Faults = filepath.Join(base, fmt.Sprint(n)), list
		bad, err := s.one(ctx)
		if err != nil {
			fail(err)
			code = 2
		} else if bad {
			code = max(code, 1)
		}
		if !s.keep || code == 0 {
			os.RemoveAll(s.o.Dir)
		} else {
			fmt.Fprintln(os.Stderr, "kept:", s.o.Dir)
		}
		if ctx.Err() != nil {
			break
		}
	}
	return code
}

// runs says which faults each run has.
func (s *settings) runs() (runs [][]faults.Fault, err error) {
	var chosen []faults.Fault
	for _, f := range faults.Faults() {
		if s.fault == "" || strings.Contains(","+s.fault+",", ","+f.Name+",") {
			chosen = append(chosen, f)
		}
	}
	if s.fault != "" && len(chosen) != strings.Count(s.fault, ",")+1 {
		return nil, fmt.Errorf("--fault %s: not all of these are known: see --help", s.fault)
	}
	if s.together {
		return [][]faults.Fault{chosen}, nil
	}
	for _, f := range chosen {
		runs = append(runs, []faults.Fault{f})
	}
	return runs, nil
}

// one does one run and reports it.
func (s *settings) one(ctx context.Context) (bad bool, err error) {
	var names []string
	for _, f := range s.o.Faults {
		names = append(names, f.Name)
	}
	began := time.Now()
	s.o.Say = func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "%6.1fs %s\n", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	s.o.Say("%s: %d brokers, %d records/s, %v, seed %d", strings.Join(names, ", "), s.o.Brokers, s.o.Rate, s.o.Duration, s.o.Seed)
	r, err := faults.Run(ctx, s.o)
	if err != nil {
		return false, fmt.Errorf("%s: %w", strings.Join(names, ", "), err)
	}
	if s.json {
		return len(r.Violations) > 0, json.NewEncoder(os.Stdout).Encode(map[string]any{"faults": names, "result": r})
	}
	counts := map[string]int{}
	for _, v := range r.Violations {
		counts[v.Kind]++
	}
	longest := time.Duration(0)
	for _, i := range r.Injections {
		longest = max(longest, i.Longest)
	}
	fmt.Printf("%-12s injected %d  sent %d  acked %d  failed %d  lost %d  duplicated %d  reordered %d  inconsistent %d  skipped %d  stuck %d  longest pause %v  median ack %v\n",
		strings.Join(names, ","), len(r.Injections), r.Sent, r.Acked, r.Failed, counts["lost"], counts["duplicated"], counts["reordered"],
		counts["inconsistent"], counts["skipped"]+counts["non-monotonic"], counts["stuck"], longest.Round(time.Millisecond), r.MedianAck.Round(time.Microsecond))
	for _, e := range r.Errors {
		fmt.Println("  failed: " + e)
	}
	for n, v := range r.Violations {
		if n == 20 {
			fmt.Printf("  and %d more\n", len(r.Violations)-n)
			break
		}
		fmt.Println("  " + v.String())
	}
	return len(r.Violations) > 0, nil
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, "faults:", err)
	return 2
}
