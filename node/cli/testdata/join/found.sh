# Makes two members with certificates, of authorities of their own, and prints the genesis.
set -e
port() { eval echo \$$1; }
for x in a b; do
	X=$(echo $x | tr ab AB)
	fondaco init -d $x --suite $SUITE --institution bank-$x --listen 127.0.0.1:$(port $X) --api-listen 127.0.0.1:$(port API$X) --admin-listen ''
	fondaco ca new ca-$x --institution bank-$x --suite $SUITE --unlocked
	fondaco join-request -d $x --out $x.request
	fondaco ca issue ca-$x $x.request --out $x.pem
	fondaco keys new chair-$x.key --suite $SUITE
	sh "$JOIN/trust.sh" ca-$x bank-$x
done >/dev/null
fondaco genesis new a/member.json --suite $SUITE --name other --out other.json >/dev/null
fondaco genesis new a/member.json b/member.json --suite $SUITE --name two --account chair-a:bank-a:committee:chair-a.key --account chair-b:bank-b:committee:chair-b.key
for x in a b; do
	fondaco init -d $x --genesis genesis.json a/member.json b/member.json >/dev/null
	sed -i "s|^program = ''|program = '$CA'\nsettings = '$WORK/settings.toml'\nchain = '$WORK/$x.pem'|" $x/fondaco.toml
done
