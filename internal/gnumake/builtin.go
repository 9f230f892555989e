package gnumake

// defaultVariables are the variables that make defines before it reads anything: those of POSIX's make and of the manual's section
// "Variables Used by Implicit Rules", and what the built-in rules are composed of. The list is what make prints of itself (make -p).
const defaultVariables = `
AR = ar
ARFLAGS = rv
AS = as
CC = cc
CO = co
COFLAGS = 
COMPILE.C = $(COMPILE.cc)
COMPILE.F = $(FC) $(FFLAGS) $(CPPFLAGS) $(TARGET_ARCH) -c
COMPILE.S = $(CC) $(ASFLAGS) $(CPPFLAGS) $(TARGET_MACH) -c
COMPILE.c = $(CC) $(CFLAGS) $(CPPFLAGS) $(TARGET_ARCH) -c
COMPILE.cc = $(CXX) $(CXXFLAGS) $(CPPFLAGS) $(TARGET_ARCH) -c
COMPILE.cpp = $(COMPILE.cc)
COMPILE.def = $(M2C) $(M2FLAGS) $(DEFFLAGS) $(TARGET_ARCH)
COMPILE.f = $(FC) $(FFLAGS) $(TARGET_ARCH) -c
COMPILE.m = $(OBJC) $(OBJCFLAGS) $(CPPFLAGS) $(TARGET_ARCH) -c
COMPILE.mod = $(M2C) $(M2FLAGS) $(MODFLAGS) $(TARGET_ARCH)
COMPILE.p = $(PC) $(PFLAGS) $(CPPFLAGS) $(TARGET_ARCH) -c
COMPILE.r = $(FC) $(FFLAGS) $(RFLAGS) $(TARGET_ARCH) -c
COMPILE.s = $(AS) $(ASFLAGS) $(TARGET_MACH)
CPP = $(CC) -E
CTANGLE = ctangle
CWEAVE = cweave
CXX = g++
F77 = $(FC)
F77FLAGS = $(FFLAGS)
FC = f77
GET = get
LD = ld
LEX = lex
LEX.l = $(LEX) $(LFLAGS) -t
LEX.m = $(LEX) $(LFLAGS) -t
LINK.C = $(LINK.cc)
LINK.F = $(FC) $(FFLAGS) $(CPPFLAGS) $(LDFLAGS) $(TARGET_ARCH)
LINK.S = $(CC) $(ASFLAGS) $(CPPFLAGS) $(LDFLAGS) $(TARGET_MACH)
LINK.c = $(CC) $(CFLAGS) $(CPPFLAGS) $(LDFLAGS) $(TARGET_ARCH)
LINK.cc = $(CXX) $(CXXFLAGS) $(CPPFLAGS) $(LDFLAGS) $(TARGET_ARCH)
LINK.cpp = $(LINK.cc)
LINK.f = $(FC) $(FFLAGS) $(LDFLAGS) $(TARGET_ARCH)
LINK.m = $(OBJC) $(OBJCFLAGS) $(CPPFLAGS) $(LDFLAGS) $(TARGET_ARCH)
LINK.o = $(CC) $(LDFLAGS) $(TARGET_ARCH)
LINK.p = $(PC) $(PFLAGS) $(CPPFLAGS) $(LDFLAGS) $(TARGET_ARCH)
LINK.r = $(FC) $(FFLAGS) $(RFLAGS) $(LDFLAGS) $(TARGET_ARCH)
LINK.s = $(CC) $(ASFLAGS) $(LDFLAGS) $(TARGET_MACH)
LINT = lint
LINT.c = $(LINT) $(LINTFLAGS) $(CPPFLAGS) $(TARGET_ARCH)
M2C = m2c
OBJC = cc
OUTPUT_OPTION = -o $@
PC = pc
PREPROCESS.F = $(FC) $(FFLAGS) $(CPPFLAGS) $(TARGET_ARCH) -F
PREPROCESS.S = $(CC) -E $(CPPFLAGS)
PREPROCESS.r = $(FC) $(FFLAGS) $(RFLAGS) $(TARGET_ARCH) -F
RM = rm -f
TANGLE = tangle
TEX = tex
TEXI2DVI = texi2dvi
WEAVE = weave
YACC = yacc
YACC.m = $(YACC) $(YFLAGS)
YACC.y = $(YACC) $(YFLAGS)

`

// defaultSuffixes is the value of .SUFFIXES before a Makefile changes it.
const defaultSuffixes = ".out .a .ln .o .c .cc .C .cpp .p .f .F .m .r .y .l .ym .yl .s .S .mod .sym .def .h .info .dvi .tex .texinfo " +
	".texi .txinfo .w .ch .web .sh .elc .el"

// builtinSources are, by the suffix of a target (empty: none), the suffixes of the files that make has a built-in rule to make it
// from (the manual's "Catalogue of Built-In Rules"). All but the one for shell scripts need a program that no Go project's own
// Makefile counts on; a target that such a rule would make is not served.
var builtinSources = []struct{ target, sources string }{
	{"", ".o .c .cc .C .cpp .p .f .F .m .r .s .S .mod .sh"},
	{".ln", ".c .y .l"},
	{".o", ".c .cc .C .cpp .p .f .F .m .r .s .S .mod"},
	{".f", ".F .r"},
	{".c", ".y .l .w"},
	{".r", ".l"},
	{".m", ".ym"},
	{".s", ".S"},
	{".sym", ".def"},
	{".info", ".texinfo .texi .txinfo"},
	{".dvi", ".tex .texinfo .texi .txinfo"},
	{".tex", ".w .web"},
	{".p", ".web"},
}

// scriptRecipe makes a program of a shell script.
const scriptRecipe = "cat $< >$@ \n chmod a+x $@"

// builtinPatterns are the built-in rules that are not made of suffixes: a copy for .out, and what RCS and SCCS keep.
var builtinPatterns = []struct {
	target, source string
	terminal       bool
}{
	{"%.out", "%", false},
	{"%", "%,v", true},
	{"%", "RCS/%,v", true},
	{"%", "RCS/%", true},
	{"%", "s.%", true},
	{"%", "SCCS/s.%", true},
}
