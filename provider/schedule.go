package provider

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// window is a span of each of some weekdays in which work is taken. It may
// reach past midnight, into the next day.
type window struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes of the day; to may be up to 48 hours
}

// schedule is when work is taken; an empty one is always.
type schedule struct {
	windows []window
	zone    *time.Location
}

const minutesOfDay = 24 * 60

var weekdays = map[string]time.Weekday{
	"sun": time.Sunday, "mon": time.Monday, "tue": time.Tuesday, "wed": time.Wednesday,
	"thu": time.Thursday, "fri": time.Friday, "sat": time.Saturday,
}

func (c Config) schedule() (schedule, error) {
	s := schedule{zone: time.Local}
	if c.TimeZone != "" {
		zone, err := time.LoadLocation(c.TimeZone)
		if err != nil {
			return s, fmt.Errorf("time_zone = %.60q: want a name as Europe/Berlin, or nothing for this machine's", c.TimeZone)
		}
		s.zone = zone
	}
	if len(c.Hours) > 64 {
		return s, fmt.Errorf("hours: %d windows, at most 64", len(c.Hours))
	}
	for _, h := range c.Hours {
		w, err := parseWindow(h)
		if err != nil {
			return s, err
		}
		s.windows = append(s.windows, w)
	}
	return s, nil
}

// parseWindow reads "mon-fri 18:00-08:00", "sat,sun 00:00-24:00" or
// "daily 22:00-06:30".
func parseWindow(text string) (window, error) {
	bad := func() (window, error) {
		return window{}, fmt.Errorf(`hours: %.60q: want days and a span, as "mon-fri 18:00-08:00", "sat,sun 00:00-24:00" or "daily 22:00-06:30"`, text)
	}
	var w window
	fields := strings.Fields(strings.ToLower(text))
	if len(text) > 100 || len(fields) != 2 {
		return bad()
	}
	for _, part := range strings.Split(fields[0], ",") {
		first, last, ranged := strings.Cut(part, "-")
		if part == "daily" {
			first, last, ranged = "mon", "sun", true
		}
		from, ok := weekdays[first]
		to := from
		if ok && ranged {
			to, ok = weekdays[last]
		}
		if !ok {
			return bad()
		}
		for d := from; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == to {
				break
			}
		}
	}
	start, end, ok := strings.Cut(fields[1], "-")
	if !ok {
		return bad()
	}
	if w.from, ok = minutes(start); !ok {
		return bad()
	}
	if w.to, ok = minutes(end); !ok || w.from == minutesOfDay {
		return bad()
	}
	if w.to <= w.from {
		w.to += minutesOfDay
	}
	return w, nil
}

func minutes(s string) (int, bool) {
	h, m, ok := strings.Cut(s, ":")
	hour, err1 := strconv.Atoi(h)
	minute, err2 := strconv.Atoi(m)
	if !ok || err1 != nil || err2 != nil || len(h) > 2 || len(m) != 2 || hour < 0 || minute < 0 || minute > 59 || hour*60+minute > minutesOfDay {
		return 0, false
	}
	return hour*60 + minute, true
}

// open says whether work is taken at t.
func (s schedule) open(t time.Time) bool {
	if len(s.windows) == 0 {
		return true
	}
	t = t.In(s.zone)
	now := t.Hour()*60 + t.Minute()
	for _, w := range s.windows {
		if w.days[t.Weekday()] && now >= w.from && now < w.to {
			return true
		}
		// What began yesterday may still be on.
		if w.days[(t.Weekday()+6)%7] && now+minutesOfDay < w.to {
			return true
		}
	}
	return false
}

// next is when open changes after t, at minute's precision; zero when it
// never does.
func (s schedule) next(t time.Time) time.Time {
	if len(s.windows) == 0 {
		return time.Time{}
	}
	now := s.open(t)
	at := t.Truncate(time.Minute)
	for range 8 * minutesOfDay {
		at = at.Add(time.Minute)
		if s.open(at) != now {
			return at
		}
	}
	return time.Time{}
}
