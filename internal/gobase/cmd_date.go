package gobase

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// date prints the time: date [-u] [-d TEXT | -r FILE] [-I | -R | +FORMAT].
func date(c *call) int {
	at := time.Now()
	zone := time.Local
	if tz := c.getenv("TZ"); tz != "" {
		if loc, err := time.LoadLocation(strings.TrimPrefix(tz, ":")); err == nil {
			zone = loc
		}
	}
	if c.opt.has("u") {
		zone = time.UTC
	}
	if d := c.opt.value("d"); d != "" {
		t, err := parseDate(d, at)
		if err != nil {
			return c.fail(1, "invalid date '%s'", d)
		}
		at = t
	}
	if r := c.opt.value("r"); r != "" {
		info, err := os.Stat(c.abs(r))
		if err != nil {
			return c.fail(1, "%s: %s", r, why(err))
		}
		at = info.ModTime()
	}
	at = at.In(zone)
	format := "%a %b %e %H:%M:%S %Z %Y"
	switch {
	case c.opt.has("R"):
		format = "%a, %d %b %Y %H:%M:%S %z"
	case c.opt.has("I"):
		formats := map[string]string{"": "%F", "date": "%F", "hours": "%FT%H%:z", "minutes": "%FT%H:%M%:z", "seconds": "%FT%H:%M:%S%:z",
			"s": "%FT%H:%M:%S%:z"}
		var ok bool
		if format, ok = formats[c.opt.value("I")]; !ok {
			return c.fail(1, "invalid argument '%s'", c.opt.value("I"))
		}
	}
	for _, arg := range c.opt.args {
		if !strings.HasPrefix(arg, "+") {
			return c.fail(1, "invalid date '%s'", arg)
		}
		format = arg[1:]
	}
	fmt.Fprintln(c.stdout, strftime(at, format))
	return 0
}

// parseDate reads a date as date -d and touch -d take it: @seconds, "now", ISO forms, [[CC]YY]MMDDhhmm[.ss].
func parseDate(text string, now time.Time) (time.Time, error) {
	if n, err := strconv.ParseInt(strings.TrimPrefix(text, "@"), 10, 64); err == nil && strings.HasPrefix(text, "@") {
		return time.Unix(n, 0), nil
	}
	switch text {
	case "now", "today":
		return now, nil
	case "yesterday":
		return now.AddDate(0, 0, -1), nil
	case "tomorrow":
		return now.AddDate(0, 0, 1), nil
	}
	for _, layout := range []string{
		time.RFC3339, "2006-01-02 15:04:05 -0700", "2006-01-02T15:04:05", time.DateTime, "2006-01-02 15:04", time.DateOnly,
		time.RFC1123Z, time.RFC1123, time.UnixDate, time.ANSIC, "200601021504.05", "200601021504", "0601021504", "20060102",
	} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("invalid date '%s'", text)
}

// strftime formats a time by the conversions of strftime(3).
func strftime(t time.Time, format string) string {
	layouts := map[byte]string{
		'Y': "2006", 'm': "01", 'd': "02", 'H': "15", 'M': "04", 'S': "05", 'y': "06", 'B': "January", 'b': "Jan",
		'h': "Jan", 'A': "Monday", 'a': "Mon", 'Z': "MST", 'z': "-0700", 'F': "2006-01-02", 'T': "15:04:05",
		'R': "15:04", 'D': "01/02/06", 'I': "03", 'p': "PM", 'e': "_2", 'c': "Mon Jan _2 15:04:05 2006",
		'x': "01/02/06", 'X': "15:04:05",
	}
	year, week := t.ISOWeek()
	others := map[byte]func() string{
		's': func() string { return strconv.FormatInt(t.Unix(), 10) },
		'N': func() string { return fmt.Sprintf("%09d", t.Nanosecond()) },
		'j': func() string { return fmt.Sprintf("%03d", t.YearDay()) },
		'u': func() string { return strconv.Itoa((int(t.Weekday())+6)%7 + 1) },
		'w': func() string { return strconv.Itoa(int(t.Weekday())) },
		'V': func() string { return fmt.Sprintf("%02d", week) },
		'G': func() string { return strconv.Itoa(year) },
		'n': func() string { return "\n" },
		't': func() string { return "\t" },
		'%': func() string { return "%" },
	}
	var out strings.Builder
	for i := 0; i < len(format); i++ {
		if format[i] != '%' || i+1 == len(format) {
			out.WriteByte(format[i])
			continue
		}
		i++
		if strings.HasPrefix(format[i:], ":z") {
			i++
			out.WriteString(t.Format("-07:00"))
			continue
		}
		if format[i] == '-' && i+1 < len(format) { // no padding
			i++
			out.WriteString(strings.TrimLeft(t.Format(layouts[format[i]]), "0 "))
			continue
		}
		if layout, ok := layouts[format[i]]; ok {
			out.WriteString(t.Format(layout))
		} else if fn, ok := others[format[i]]; ok {
			out.WriteString(fn())
		} else {
			out.WriteString("%" + format[i:i+1])
		}
	}
	return out.String()
}
