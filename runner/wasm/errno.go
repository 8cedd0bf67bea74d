package wasm

// errno is a WASI preview 1 error number.
type errno uint32

// The error numbers that are used, from the WASI preview 1 witx.
const (
	ok               errno = 0
	errnoBadF        errno = 8
	errnoExist       errno = 20
	errnoFault       errno = 21
	errnoFBig        errno = 22
	errnoIlSeq       errno = 25
	errnoInval       errno = 28
	errnoIsDir       errno = 31
	errnoMFile       errno = 33
	errnoNameTooLong errno = 37
	errnoNoEnt       errno = 44
	errnoNoMem       errno = 48
	errnoNoSpc       errno = 51
	errnoNoSys       errno = 52
	errnoNotDir      errno = 54
	errnoNotEmpty    errno = 55
	errnoNotSock     errno = 57
	errnoNotSup      errno = 58
	errnoPerm        errno = 63
	errnoROFS        errno = 69
	errnoSPipe       errno = 70
	errnoXDev        errno = 75
)

// File types of WASI.
const (
	typeUnknown   = 0
	typeDirectory = 3
	typeRegular   = 4
)

// Flags of path_open and fdstat.
const (
	oCreate    = 1
	oDirectory = 2
	oExclusive = 4
	oTruncate  = 8

	fdAppend   = 1
	fdNonblock = 4

	rightRead  = 1 << 1
	rightSeek  = 1 << 2
	rightTell  = 1 << 5
	rightWrite = 1 << 6
	allRights  = 1<<30 - 1
)
