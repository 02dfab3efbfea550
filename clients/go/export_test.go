package sequitur

// What the tests against a real broker use of the tests with the test server.
var (
	StartCutter = startCutter
	NewHistory  = newHistory
)

func (p *Producer) EndDelivery() { p.endDelivery() }
func (c *Client) DropSilent()    { c.dropSilent() }

func (c *cutter) Addr() string  { return c.addr() }
func (c *cutter) Drop(on bool)  { c.drop.Store(on) }
func (c *cutter) CutsLeft() int { return int(c.cuts.Load()) }

func (h *history) Outcome(value string) func(Ack, error) { return h.outcome(value) }
func (h *history) Check(logs [][]string) error           { return h.check(logs) }
func (h *history) Failed() map[string]error              { return h.failed }
func (h *history) Acked() map[string]Ack                 { return h.acked }
