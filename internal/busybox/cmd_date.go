package busybox

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// zone is the time zone that TZ names, else the machine's.
func (c *call) zone() *time.Location {
	if tz := c.getenv("TZ"); tz != "" {
		if loc, err := time.LoadLocation(strings.TrimPrefix(tz, ":")); err == nil {
			return loc
		}
		c.unserved("the time zone %s is not served", tz)
	}
	return time.Local
}

// dateArgs are date's arguments: [-u] [-d TEXT | -r FILE] [-I[UNIT] | -R | +FORMAT].
type dateArgs struct {
	utc, rfc   bool
	text, file string
	format     string
	given      bool // a format
}

// isoFormats are the units of -I.
var isoFormats = map[string]string{"": "%F", "date": "%F", "hours": "%FT%H%:z", "minutes": "%FT%H:%M%:z", "seconds": "%FT%H:%M:%S%:z"}

func parseDateArgs(v Variant, args []string) (a dateArgs, err error) {
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		value := func(short string, long string) (string, bool) {
			if v, ok := strings.CutPrefix(arg, long+"="); ok {
				return v, true
			}
			v, ok := strings.CutPrefix(arg, short)
			if !ok && arg != long {
				return "", false
			}
			if ok && v != "" {
				return v, true
			}
			if len(args) == 0 {
				err = fmt.Errorf("%s without a value", arg)
				return "", true
			}
			v, args = args[0], args[1:]
			return v, true
		}
		unit, isIso := strings.CutPrefix(arg, "-I")
		if !isIso {
			if unit, isIso = strings.CutPrefix(arg, "--iso-8601"); isIso {
				unit = strings.TrimPrefix(unit, "=")
			}
		}
		switch {
		case strings.HasPrefix(arg, "+"):
			if a.format, a.given = arg[1:], true; v == Alpine && strings.Contains(a.format, "%:z") {
				return a, fmt.Errorf("BusyBox's date has no %%:z")
			}
		case arg == "-u" || arg == "--utc" || arg == "--universal":
			a.utc = true
		case arg == "-R" || arg == "--rfc-email" || arg == "--rfc-2822":
			a.rfc = true
		case isIso:
			format, ok := isoFormats[unit]
			if !ok {
				return a, fmt.Errorf("the unit %s is not served", unit)
			}
			a.format, a.given = format, true
		default:
			if v, ok := value("-d", "--date"); ok {
				a.text = v
			} else if v, ok := value("-r", "--reference"); ok {
				a.file = v
			} else {
				return a, fmt.Errorf("the argument %s is not served", arg)
			}
		}
		if err != nil {
			return a, err
		}
	}
	if a.rfc {
		a.format, a.given = "%a, %d %b %Y %H:%M:%S %z", true
	}
	if !a.given {
		a.format = "%a %b %e %H:%M:%S %Z %Y"
	}
	if !dateFormat.MatchString(a.format) {
		return a, fmt.Errorf("the format %s is not served", a.format)
	}
	return a, nil
}

// dateFormat are the conversions that both images' date knows.
var dateFormat = regexp.MustCompile(`^([^%]|%-?[YmdHMSyBbhAaeIjkl]|%:?z|%[ZFTRDpsuwVGnt%])*$`)

func checkDate(v Variant, args []Value) string {
	texts, all := known(args)
	if !all {
		return ""
	}
	a, err := parseDateArgs(v, texts)
	if err == nil && a.text != "" {
		_, err = parseDate(a.text, time.Now())
	}
	if err != nil {
		return err.Error()
	}
	return ""
}

func date(c *call) int {
	a, err := parseDateArgs(c.variant(), c.args[1:])
	if err != nil {
		return c.unserved("%v", err)
	}
	zone := time.UTC
	if !a.utc {
		zone = c.zone()
	}
	at := time.Now().In(zone)
	if a.text != "" {
		if at, err = parseDate(a.text, at); err != nil {
			return c.unserved("%v", err)
		}
	}
	if a.file != "" {
		info, err := os.Stat(c.abs(a.file))
		if err != nil {
			return c.fail(1, "%s: %s", a.file, why(err))
		}
		at = info.ModTime()
	}
	fmt.Fprintln(c.stdout, strftime(at.In(zone), a.format))
	return 0
}

// parseDate reads a date as date -d and touch -d of both images take it: @seconds, and the forms of ISO without a zone.
func parseDate(text string, now time.Time) (time.Time, error) {
	if digits, ok := strings.CutPrefix(text, "@"); ok {
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
			return time.Unix(n, 0), nil
		}
	}
	for _, layout := range []string{time.DateTime, "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("the date '%s' is not served", text)
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
		'k': func() string { return fmt.Sprintf("%2d", t.Hour()) },
		'l': func() string { return fmt.Sprintf("%2d", (t.Hour()+11)%12+1) },
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
			text := ""
			if layout, ok := layouts[format[i]]; ok {
				text = t.Format(layout)
			} else {
				text = others[format[i]]()
			}
			if text = strings.TrimLeft(text, "0 "); text == "" {
				text = "0"
			}
			out.WriteString(text)
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
