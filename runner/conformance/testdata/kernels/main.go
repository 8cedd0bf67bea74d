// Kernels is the Go form of the kernels that figures are quoted for, one a
// run: kernels NAME. It is built for wasip1 by the benchmark.
package main

import (
	"crypto/sha256"
	"fmt"
	"math"
	"os"
)

type body struct{ x, y, z, vx, vy, vz, m float64 }

const (
	sun  = 4 * math.Pi * math.Pi
	days = 365.24
)

func nbody(n int) float64 {
	b := []body{
		{0, 0, 0, 0, 0, 0, sun},
		{4.84143144246472090e+00, -1.16032004402742839e+00, -1.03622044471123109e-01, 1.66007664274403694e-03 * days, 7.69901118419740425e-03 * days, -6.90460016972063023e-05 * days, 9.54791938424326609e-04 * sun},
		{8.34336671824457987e+00, 4.12479856412430479e+00, -4.03523417114321381e-01, -2.76742510726411899e-03 * days, 4.99852801234917238e-03 * days, 2.30417297573763929e-05 * days, 2.85885980666130812e-04 * sun},
		{1.28943695621391310e+01, -1.51111514016986312e+01, -2.23307578892655734e-01, 2.96460137564761618e-03 * days, 2.37847173959480950e-03 * days, -2.96589568540237556e-05 * days, 4.36624404335156298e-05 * sun},
		{1.53796971148509165e+01, -2.59193146099879641e+01, 1.79258772950371181e-01, 2.68067772490389322e-03 * days, 1.62824170038242295e-03 * days, -9.51592254519715870e-05 * days, 5.15138902046611451e-05 * sun},
	}
	for range n {
		for i := range b {
			p := &b[i]
			for j := i + 1; j < len(b); j++ {
				q := &b[j]
				dx, dy, dz := p.x-q.x, p.y-q.y, p.z-q.z
				d2 := dx*dx + dy*dy + dz*dz
				mag := 0.01 / (d2 * math.Sqrt(d2))
				p.vx -= dx * q.m * mag
				p.vy -= dy * q.m * mag
				p.vz -= dz * q.m * mag
				q.vx += dx * p.m * mag
				q.vy += dy * p.m * mag
				q.vz += dz * p.m * mag
			}
		}
		for i := range b {
			p := &b[i]
			p.x += 0.01 * p.vx
			p.y += 0.01 * p.vy
			p.z += 0.01 * p.vz
		}
	}
	return b[0].x
}

func mandelbrot(n int) (c int) {
	for y := range n {
		for x := range n {
			cr, ci := 2*float64(x)/float64(n)-1.5, 2*float64(y)/float64(n)-1
			zr, zi := 0.0, 0.0
			i := 0
			for ; i < 50 && zr*zr+zi*zi < 4; i++ {
				zr, zi = zr*zr-zi*zi+cr, 2*zr*zi+ci
			}
			c += i
		}
	}
	return c
}

func hash(n int) [32]byte {
	buf := make([]byte, 64<<10)
	var s [32]byte
	for range n {
		copy(buf, s[:])
		s = sha256.Sum256(buf)
	}
	return s
}

func tight(n int) uint32 {
	x := uint32(1)
	for range n {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
	}
	return x
}

func matmul(n int) (sum float64) {
	a, b, c := make([]float64, n*n), make([]float64, n*n), make([]float64, n*n)
	for i := range a {
		a[i], b[i] = float64(i%17)*0.5, float64(i%13)*0.25
	}
	for i := range n {
		for j := range n {
			s := 0.0
			for k := range n {
				s += a[i*n+k] * b[k*n+j]
			}
			c[i*n+j] = s
		}
	}
	for _, v := range c {
		sum += v
	}
	return sum
}

func main() {
	switch os.Args[1] {
	case "tight":
		fmt.Println(tight(100_000_000))
	case "sha256":
		fmt.Printf("%x\n", hash(150))
	case "nbody":
		fmt.Println(nbody(400_000))
	case "mandelbrot":
		fmt.Println(mandelbrot(1000))
	case "matmul":
		fmt.Println(matmul(256))
	}
}
