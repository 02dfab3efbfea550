package faults

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

const isolatedEnv = "SEQUITUR_FAULTS_ISOLATED"

// ErrNotPermitted says that this machine lets this user make no network namespaces.
var ErrNotPermitted = errors.New("network namespaces are not permitted here: run as root, or allow user namespaces")

// Isolate runs this program again with the same arguments in a network namespace of its own, unless it runs in one
// already, and returns its exit code; ran is false in the namespace. Nothing there reaches beyond the machine, and all
// that was made there vanishes with the process. The error may be ErrNotPermitted.
func Isolate() (code int, ran bool, err error) {
	if os.Getenv(isolatedEnv) != "" {
		return 0, false, nil
	}
	self, err := os.Executable()
	if err != nil {
		return 0, false, err
	}
	// Pdeathsig is about the thread that starts the child.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := isolated(self, 0)
	err = cmd.Run()
	if cmd.ProcessState == nil && errors.Is(err, fs.ErrPermission) {
		cmd = isolated(self, syscall.CLONE_NEWUSER)
		err = cmd.Run()
	}
	switch {
	case cmd.ProcessState != nil:
		return cmd.ProcessState.ExitCode(), true, nil
	case errors.Is(err, fs.ErrPermission):
		return 0, false, ErrNotPermitted
	}
	return 0, false, fmt.Errorf("make a network namespace: %w", err)
}

// isolated is this program, to be run in new namespaces.
func isolated(self string, flags uintptr) *exec.Cmd {
	cmd := exec.Command(self, os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), isolatedEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flags | syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if flags&syscall.CLONE_NEWUSER != 0 {
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return cmd
}

// lab is a network of hosts, each in a namespace of its own, and this process, all on one bridge. Hosts are numbered
// from 1.
type lab struct {
	own   netns.NsHandle
	hosts []host
}

type host struct {
	ns     netns.NsHandle
	handle *netlink.Handle // acts inside ns
	link   netlink.Link    // its end of the cable, inside ns
	port   netlink.Link    // the other end, on the bridge
	ip     net.IP
	mac    net.HardwareAddr
}

const labBridge = "sequitur0"

// hostIP is the address of a host; number 254 is this process.
func hostIP(number int) net.IP { return net.IPv4(10, 77, 0, byte(number)).To4() }

// newLab makes the network. This process must run isolated.
func newLab(hosts int) (l *lab, err error) {
	if os.Getenv(isolatedEnv) == "" {
		return nil, errors.New("not in a network namespace of its own: see Isolate")
	}
	l = &lab{}
	if l.own, err = netns.Get(); err != nil {
		return nil, fmt.Errorf("network namespace: %w", err)
	}
	if err := loopbackUp(nil); err != nil {
		return nil, err
	}
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: labBridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return nil, fmt.Errorf("make a bridge: %w", err)
	}
	if err := netlink.AddrAdd(bridge, &netlink.Addr{IPNet: &net.IPNet{IP: hostIP(254), Mask: net.CIDRMask(24, 32)}}); err != nil {
		return nil, fmt.Errorf("address of the bridge: %w", err)
	}
	if err := netlink.LinkSetUp(bridge); err != nil {
		return nil, err
	}
	for i := range hosts {
		h, err := l.newHost(i+1, bridge)
		if err != nil {
			l.close()
			return nil, fmt.Errorf("make host %d: %w", i+1, err)
		}
		l.hosts = append(l.hosts, h)
	}
	// All addresses are known from the start, so that a false one is a cut cable.
	return l, l.heal()
}

// close takes the network apart.
func (l *lab) close() {
	for _, h := range l.hosts {
		_ = netlink.LinkDel(h.port) // and the other end with it
		h.handle.Close()
		_ = h.ns.Close()
	}
	if bridge, err := netlink.LinkByName(labBridge); err == nil {
		_ = netlink.LinkDel(bridge)
	}
	_ = l.own.Close()
}

// loopbackUp brings loopback up, in the namespace of the handle or, if nil, in that of this thread.
func loopbackUp(h *netlink.Handle) error {
	if h == nil {
		var err error
		if h, err = netlink.NewHandle(); err != nil {
			return err
		}
		defer h.Close()
	}
	lo, err := h.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("loopback: %w", err)
	}
	return h.LinkSetUp(lo)
}

func (l *lab) newHost(number int, bridge netlink.Link) (h host, err error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	h.ns, err = netns.New() // and this thread is in it
	if back := netns.Set(l.own); back != nil {
		panic(back) // a thread in a wrong namespace must not go on
	}
	if err != nil {
		return h, err
	}
	outside, inside := fmt.Sprintf("port%d", number), fmt.Sprintf("host%d", number)
	veth := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: outside, MasterIndex: bridge.Attrs().Index}, PeerName: inside, PeerNamespace: netlink.NsFd(h.ns)}
	if err := netlink.LinkAdd(veth); err != nil {
		return h, fmt.Errorf("cable: %w", err)
	}
	if h.port, err = netlink.LinkByName(outside); err != nil {
		return h, err
	}
	if err := netlink.LinkSetUp(h.port); err != nil {
		return h, err
	}
	if h.handle, err = netlink.NewHandleAt(h.ns); err != nil {
		return h, err
	}
	if err := loopbackUp(h.handle); err != nil {
		return h, err
	}
	if h.link, err = h.handle.LinkByName(inside); err != nil {
		return h, err
	}
	h.ip, h.mac = hostIP(number), h.link.Attrs().HardwareAddr
	if err := h.handle.AddrAdd(h.link, &netlink.Addr{IPNet: &net.IPNet{IP: h.ip, Mask: net.CIDRMask(24, 32)}}); err != nil {
		return h, err
	}
	return h, h.handle.LinkSetUp(h.link)
}

// start starts a process on a host, which dies with this process, and closes ended when it has ended.
func (l *lab) start(number int, cmd *exec.Cmd, ended chan<- struct{}) error {
	errs := make(chan error, 1)
	go func() {
		// Pdeathsig follows the thread: this one is never given back.
		runtime.LockOSThread()
		if err := netns.Set(l.hosts[number-1].ns); err != nil {
			errs <- err
			return
		}
		if cmd.SysProcAttr == nil {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
		}
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
		err := cmd.Start()
		if back := netns.Set(l.own); back != nil {
			panic(back)
		}
		errs <- err
		if err == nil {
			_ = cmd.Wait()
			close(ended)
		}
	}()
	return <-errs
}

// nowhere is an address that no host has: what is sent there is gone.
var nowhere = net.HardwareAddr{0x02, 0xde, 0xad, 0, 0, 1}

// cut loses everything that one host sends to another, silently, in this direction only.
func (l *lab) cut(from, to int) error { return l.point(from, to, nowhere) }

func (l *lab) point(from, to int, mac net.HardwareAddr) error {
	h := &l.hosts[from-1]
	err := h.handle.NeighSet(&netlink.Neigh{
		LinkIndex: h.link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: hostIP(to), HardwareAddr: mac, Family: netlink.FAMILY_V4,
	})
	if err != nil {
		return fmt.Errorf("cable from host %d to %d: %w", from, to, err)
	}
	return nil
}

// cutBoth separates hosts from all other hosts, in both directions. Clients still reach all of them.
func (l *lab) cutBoth(side map[int]bool) error {
	for a := range l.hosts {
		for b := range l.hosts {
			if side[a+1] != side[b+1] {
				if err := l.cut(a+1, b+1); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// heal connects everybody with everybody.
func (l *lab) heal() error {
	for a := range l.hosts {
		for b := range l.hosts {
			if a != b {
				if err := l.point(a+1, b+1, l.hosts[b].mac); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// environment names the host in what a process prints.
func environment(extra ...string) []string {
	env := []string{}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "SEQUITUR_") {
			env = append(env, v)
		}
	}
	return append(env, extra...)
}
