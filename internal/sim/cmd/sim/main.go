// Command sim runs seeds of the simulation.
//
//	go run ./internal/sim/cmd/sim --seeds 100000 --from 0
//	go run ./internal/sim/cmd/sim --seed 4711            # one seed, told step by step
//	go run ./internal/sim/cmd/sim --break rank-by-fence  # the first seeds that notice
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/sequitur-mq/sequitur/internal/sim"
)

func main() {
	os.Exit(run())
}

func run() int {
	seeds := flag.Uint64("seeds", 10_000, "how many seeds to run")
	from := flag.Uint64("from", 0, "the first seed")
	one := flag.Int64("seed", -1, "run only this seed and tell what happens")
	rule := flag.String("break", "", "switch a rule off; the run then ends at the first seed that notices")
	flag.Parse()

	var o sim.Options
	if *rule != "" && !switchOff(*rule, &o.Break) {
		return 2
	}
	if *one >= 0 {
		o.Seed, o.Log = uint64(*one), func(line string) { fmt.Println(line) }
		r := sim.Run(o)
		fmt.Printf("%+v\n", r)
		return code(r.Err)
	}
	var sum sim.Result
	began, told := time.Now(), time.Now()
	for i := range *seeds {
		o.Seed = *from + i
		r := sim.Run(o)
		if r.Err != nil && (*rule == "" || !errors.Is(r.Err, sim.ErrStuck)) {
			fmt.Printf("seed %d: %v\nsee it with: go run ./internal/sim/cmd/sim --seed %d", o.Seed, r.Err, o.Seed)
			if *rule != "" {
				fmt.Printf(" --break %s", *rule)
			}
			fmt.Println()
			return 1
		}
		sum.Add(r)
		if time.Since(told) > 2*time.Second {
			told = time.Now()
			fmt.Printf("%d of %d seeds, %.0f/s: %v\n", i+1, *seeds, float64(i+1)/time.Since(began).Seconds(), sum)
		}
	}
	fmt.Printf("%d seeds from %d without a violation in %v: %v\n", *seeds, *from, time.Since(began).Round(time.Millisecond), sum)
	return 0
}

func switchOff(name string, b *sim.Breaks) bool {
	for _, r := range sim.Rules() {
		if r.Name == name {
			r.Off(b)
			return true
		}
	}
	fmt.Fprintf(os.Stderr, "there is no rule %q; there are:\n", name)
	for _, r := range sim.Rules() {
		fmt.Fprintln(os.Stderr, "  "+r.Name)
	}
	return false
}

func code(err error) int {
	if err != nil {
		return 1
	}
	return 0
}
