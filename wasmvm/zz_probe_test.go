package wasmvm
import ("testing";"os";"context";"fmt";"time";"sort"
"github.com/fondaco/fondaco/state/ledger")
type nohost struct{ Host }
func (nohost) Context() Context { return Context{Group:"main"} }
func (nohost) Log(l LogLevel, s string) { }
func (nohost) Get(k []byte) ([]byte,bool,error) { return []byte{0x18,100}, true, nil }
func (nohost) Put(k,v []byte) error { return nil }
func (nohost) Emit(t string,v []byte) error { return nil }
func TestProbe(t *testing.T){ c,_:=os.ReadFile(os.Getenv("PROBE")); v,err:=New(context.Background(),Config{}); if err!=nil{t.Fatal(err)}; m,err:=v.Compile(context.Background(),c); if err!=nil{t.Fatal(err)}
fmt.Println("init", m.info.InitGas, "pages", len(m.program.memory)>>16)
for _,n:=range []string{"total_supply","balance_of","transfer"} { var d []time.Duration; var o Outcome
args:=[]byte{0x80}; if n=="balance_of" { args=append([]byte{0x81,0x54},make([]byte,20)...)}; if n=="transfer" { args=append([]byte{0x82,0x54},make([]byte,20)...); args=append(args,5)}
for range 500 { s:=time.Now(); o,err=m.Call(context.Background(), nohost{}, n, args, ledger.Gas(1e9)); d=append(d,time.Since(s)) }
sort.Slice(d,func(i,j int)bool{return d[i]<d[j]})
fmt.Println(n, o.Status, o.Gas-m.info.InitGas, d[0], d[50], d[250]) }
}
