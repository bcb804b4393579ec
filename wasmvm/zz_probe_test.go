package wasmvm
import ("testing";"os";"context";"fmt";"time";"sort"
"github.com/fondaco/fondaco/state/ledger")
type nohost struct{ Host }
func (nohost) Context() Context { return Context{} }
func (nohost) Log(l LogLevel, s string) { }
func TestProbe(t *testing.T){ c,_:=os.ReadFile("/tmp/min/m.wasm"); v,err:=New(context.Background(),Config{}); if err!=nil{t.Fatal(err)}; m,err:=v.Compile(context.Background(),c); if err!=nil{t.Fatal(err)}
fmt.Println("init", m.info.InitGas, "pages", len(m.program.memory)>>16)
for _,n:=range m.info.Methods { var d []time.Duration; var o Outcome
for range 200 { s:=time.Now(); o,err=m.Call(context.Background(), nohost{}, n, []byte{0x80}, ledger.Gas(1e9)); d=append(d,time.Since(s)) }
sort.Slice(d,func(i,j int)bool{return d[i]<d[j]})
fmt.Println(n, o.Status, o.Gas-m.info.InitGas, d[0], d[20], d[100]) }
}
