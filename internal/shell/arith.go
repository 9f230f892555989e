package shell

import (
	"math"
	"strconv"
	"strings"

	"mvdan.cc/sh/v3/syntax"
)

// arithmetic evaluates $((…)).
func (in *interp) arithmetic(e syntax.ArithmExpr) int64 {
	switch e := e.(type) {
	case *syntax.Word:
		return in.operand(e)
	case *syntax.ParenArithm:
		return in.arithmetic(e.X)
	case *syntax.UnaryArithm:
		return in.unary(e)
	case *syntax.BinaryArithm:
		return in.binaryArithm(e)
	}
	in.unserved("$((…))", "is not served")
	return 0
}

func (in *interp) operand(w *syntax.Word) int64 {
	if name := w.Lit(); isName(name) {
		value, set := in.get(name)
		if !set && in.opts['u'] {
			in.unserved(name, "is not set")
		}
		if value == "" {
			return 0
		}
		return in.number(value)
	}
	return in.number(in.text(w))
}

// number reads an integer as C does.
func (in *interp) number(s string) int64 {
	trimmed := strings.Trim(s, " \t\n")
	digits := strings.TrimLeft(trimmed, "+-")
	valid := len(trimmed)-len(digits) <= 1 && digits != "" && !strings.Contains(digits, "_") && !strings.ContainsAny(digits, "oObB")
	if len(digits) > 1 && digits[0] == '0' && (digits[1] == 'x' || digits[1] == 'X') {
		valid = len(digits) > 2 && len(trimmed)-len(digits) <= 1 && !strings.Contains(digits, "_")
	}
	n, err := strconv.ParseInt(trimmed, 0, 64)
	if !valid || err != nil {
		in.unserved(s, "is no number that $((…)) is served with")
	}
	return n
}

func (in *interp) unary(e *syntax.UnaryArithm) int64 {
	if e.Op == syntax.Inc || e.Op == syntax.Dec {
		w, ok := e.X.(*syntax.Word)
		if !ok || !isName(w.Lit()) || in.Variant == Dash {
			in.unserved(e.Op.String(), "is not served in $((…))")
		}
		old := in.operand(w)
		now := old + 1
		if e.Op == syntax.Dec {
			now = old - 1
		}
		in.set(w.Lit(), strconv.FormatInt(now, 10))
		if e.Post {
			return old
		}
		return now
	}
	n := in.arithmetic(e.X)
	switch e.Op {
	case syntax.Not:
		return truth(n == 0)
	case syntax.BitNegation:
		return ^n
	case syntax.Minus:
		return -n
	}
	return n
}

func truth(b bool) int64 {
	if b {
		return 1
	}
	return 0
}

// assigning are the operators that set a variable, with the one that they apply.
var assigning = map[syntax.BinAritOperator]syntax.BinAritOperator{
	syntax.AddAssgn: syntax.Add, syntax.SubAssgn: syntax.Sub, syntax.MulAssgn: syntax.Mul, syntax.QuoAssgn: syntax.Quo, syntax.RemAssgn: syntax.Rem,
	syntax.AndAssgn: syntax.And, syntax.OrAssgn: syntax.Or, syntax.XorAssgn: syntax.Xor, syntax.ShlAssgn: syntax.Shl, syntax.ShrAssgn: syntax.Shr,
}

func (in *interp) binaryArithm(e *syntax.BinaryArithm) int64 {
	op, compound := assigning[e.Op]
	if compound || e.Op == syntax.Assgn {
		w, ok := e.X.(*syntax.Word)
		if !ok || !isName(w.Lit()) {
			in.unserved("$((…))", "an assignment to no variable")
		}
		var n int64
		if compound {
			old := in.operand(w)
			n = in.compute(op, old, in.arithmetic(e.Y))
		} else {
			n = in.arithmetic(e.Y)
		}
		in.set(w.Lit(), strconv.FormatInt(n, 10))
		return n
	}
	x := in.arithmetic(e.X)
	switch e.Op {
	case syntax.AndArit:
		return truth(x != 0 && in.arithmetic(e.Y) != 0)
	case syntax.OrArit:
		return truth(x != 0 || in.arithmetic(e.Y) != 0)
	case syntax.TernQuest:
		if alt, ok := e.Y.(*syntax.BinaryArithm); ok && alt.Op == syntax.TernColon {
			if x != 0 {
				return in.arithmetic(alt.X)
			}
			return in.arithmetic(alt.Y)
		}
	}
	return in.compute(e.Op, x, in.arithmetic(e.Y))
}

func (in *interp) compute(op syntax.BinAritOperator, x, y int64) int64 {
	switch op {
	case syntax.Add:
		return x + y
	case syntax.Sub:
		return x - y
	case syntax.Mul:
		return x * y
	case syntax.Quo, syntax.Rem:
		if y == 0 {
			if in.Variant == Ash {
				in.fatal("divide by zero")
			}
			in.unserved("$((…))", "division by zero")
		}
		if y == -1 && x == math.MinInt64 {
			in.unserved("$((…))", "a quotient that is too large")
		}
		if op == syntax.Quo {
			return x / y
		}
		return x % y
	case syntax.Shl, syntax.Shr:
		if y < 0 || y > 63 {
			in.unserved("$((…))", "a shift by %d", y)
		}
		if op == syntax.Shl {
			return x << y
		}
		return x >> y
	case syntax.Eql:
		return truth(x == y)
	case syntax.Neq:
		return truth(x != y)
	case syntax.Lss:
		return truth(x < y)
	case syntax.Gtr:
		return truth(x > y)
	case syntax.Leq:
		return truth(x <= y)
	case syntax.Geq:
		return truth(x >= y)
	case syntax.And:
		return x & y
	case syntax.Or:
		return x | y
	case syntax.Xor:
		return x ^ y
	}
	in.unserved("$((…))", "the operator %s is not served", op)
	return 0
}
