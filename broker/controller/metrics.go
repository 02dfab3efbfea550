package controller

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/sequitur-mq/sequitur/consensus"
	"github.com/sequitur-mq/sequitur/consensus/controller"
)

// metrics of the controller. Those of the cluster are set only where it is in office.
type metrics struct {
	to  prometheus.Registerer
	all []prometheus.Collector

	active, partitions, leaderless, under, unavailable, moving prometheus.Gauge
	brokers                                                    *prometheus.GaugeVec
	epochs, elected                                            prometheus.Counter
	next                                                       time.Duration
}

const metricsEvery = time.Second

func newMetrics(to prometheus.Registerer) *metrics {
	m := &metrics{to: to}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "sequitur_controller_" + name, Help: help})
		m.all = append(m.all, g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: "sequitur_controller_" + name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	m.active = gauge("active", "1 on the broker that is the controller.")
	m.partitions = gauge("partitions", "Partitions of the cluster.")
	m.leaderless = gauge("partitions_without_leader", "Partitions that nobody leads, or whose leader is dead.")
	m.under = gauge("partitions_under_replicated", "Partitions with a member away or too few members.")
	m.unavailable = gauge("partitions_unavailable", "Partitions of which no majority lives.")
	m.moving = gauge("partitions_moving", "Partitions whose replicas are to be elsewhere.")
	m.epochs = counter("epochs_begun_total", "Epochs begun.")
	m.elected = counter("leaders_elected_total", "Leaders elected.")
	m.brokers = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "sequitur_controller_brokers", Help: "Brokers by state."}, []string{"state"})
	m.all = append(m.all, m.brokers)
	if to != nil {
		to.MustRegister(m.all...)
	}
	return m
}

func (m *metrics) unregister() {
	if m.to != nil {
		for _, c := range m.all {
			m.to.Unregister(c)
		}
	}
}

func (m *metrics) proposed(c consensus.Command) {
	switch c := c.(type) {
	case consensus.BeginEpochs:
		m.epochs.Add(float64(len(c.Items)))
	case consensus.ElectLeaders:
		m.elected.Add(float64(len(c.Items)))
	}
}

func (m *metrics) refresh(c *controller.Controller, now time.Duration) {
	if m.to == nil || now < m.next {
		return
	}
	m.next = now + metricsEvery
	m.active.Set(0)
	m.brokers.Reset()
	if !c.Active() {
		return
	}
	m.active.Set(1)
	s := c.Status(now)
	m.partitions.Set(float64(s.Partitions.Total))
	m.leaderless.Set(float64(s.Partitions.WithoutLeader))
	m.under.Set(float64(s.Partitions.UnderReplicated))
	m.unavailable.Set(float64(s.Partitions.Unavailable))
	m.moving.Set(float64(s.Partitions.Moving))
	for _, b := range s.Brokers {
		m.brokers.WithLabelValues(b.State).Inc()
	}
}
