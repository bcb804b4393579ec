# What every registry does, whatever language it is written in.
accounts alice bob

alice deploys registry

story an empty registry
registry.count is 0
registry.get anything is null
registry.list "" null 1 is items=[] next=null

story an entry has an owner, a value, and the time of its last change
at 2026-02-01T12:00:00.123Z
alice calls registry.put k 0x0102
  emits Written key=k owner=alice value=0x0102
registry.get k is {"owner":"alice","value":"0x0102","updated":"2026-02-01T12:00:00.123Z"}
registry.count is 1
at 2026-02-02
alice calls registry.put k 0x
  emits Written key=k owner=alice value=0x
registry.get k is {"owner":"alice","value":"0x","updated":"2026-02-02"}
registry.count is 1

story only the owner writes again or removes
alice calls registry.put k "mine"
bob calls registry.put k "his"
  refused NotOwner key=k owner=alice
  emits nothing
bob calls registry.remove k
  refused NotOwner key=k owner=alice
registry.get k is {"owner":"alice","value":"mine","updated":"2026-01-01T00:00:02Z"}
alice calls registry.remove k
  emits Removed key=k owner=alice
registry.get k is null
registry.count is 0

story what is removed is free
alice calls registry.put k "mine"
alice calls registry.remove k
bob calls registry.put k "his"
  emits Written key=k owner=bob value="his"
registry.count is 1
alice calls registry.remove k
  refused NotOwner key=k owner=bob

story what is not there cannot be removed
alice calls registry.remove k
  refused NoSuchKey key=k
alice calls registry.remove ""
  refused NoSuchKey key=""
alice calls registry.remove (100 of "k")
  refused NoSuchKey key=(100 of "k")
registry.count is 0

story keys have 1 to 64 bytes
alice calls registry.put "" 0x01
  refused BadKey length=0
alice calls registry.put (64 of "k") 0x01
alice calls registry.put (65 of "k") 0x01
  refused BadKey length=65
# bytes, not characters: 21 of three bytes are 63
alice calls registry.put (21 of "金") 0x01
alice calls registry.put (22 of "金") 0x01
  refused BadKey length=66
alice calls registry.put "\u0000" 0x01
alice calls registry.put "a/b c\"d" 0x01
registry.get "a/b c\"d" is {"owner":"alice","value":"0x01","updated":"2026-01-01T00:00:08Z"}
registry.count is 4
registry.get "" is null
registry.get (65 of "k") is null

story entries are listed in the order of their keys' bytes
alice calls registry.put b 0x02
alice calls registry.put a/2 0x01
bob calls registry.put a 0x00
alice calls registry.put "é" 0x05
alice calls registry.put a/10 0x03
alice calls registry.put B 0x04
registry.list "" null 100 is next=null items=[
  {"key":"B","entry":{"owner":"alice","value":"0x04","updated":"2026-01-01T00:00:07Z"}},
  {"key":"a","entry":{"owner":"bob","value":"0x00","updated":"2026-01-01T00:00:04Z"}},
  {"key":"a/10","entry":{"owner":"alice","value":"0x03","updated":"2026-01-01T00:00:06Z"}},
  {"key":"a/2","entry":{"owner":"alice","value":"0x01","updated":"2026-01-01T00:00:03Z"}},
  {"key":"b","entry":{"owner":"alice","value":"0x02","updated":"2026-01-01T00:00:02Z"}},
  {"key":"é","entry":{"owner":"alice","value":"0x05","updated":"2026-01-01T00:00:05Z"}}]
registry.list a/ null 100 is next=null items=[
  {"key":"a/10","entry":{"owner":"alice","value":"0x03","updated":"2026-01-01T00:00:06Z"}},
  {"key":"a/2","entry":{"owner":"alice","value":"0x01","updated":"2026-01-01T00:00:03Z"}}]
registry.list a null 1 is next=a/10 items=[
  {"key":"a","entry":{"owner":"bob","value":"0x00","updated":"2026-01-01T00:00:04Z"}}]

story a page says where the next one begins
alice calls registry.put x/{1..5} 0x00
alice calls registry.put w 0x00
alice calls registry.put y 0x00
registry.list x/ null 2 is next=x/3 ...
registry.list x/ x/3 2 is next=x/5 items=[
  {"key":"x/3","entry":{"owner":"alice","value":"0x00","updated":"2026-01-01T00:00:04Z"}},
  {"key":"x/4","entry":{"owner":"alice","value":"0x00","updated":"2026-01-01T00:00:05Z"}}]
registry.list x/ x/5 2 is next=null items=[
  {"key":"x/5","entry":{"owner":"alice","value":"0x00","updated":"2026-01-01T00:00:06Z"}}]
# as many as there are, and one fewer
registry.list x/ null 5 is next=null ...
registry.list x/ null 4 is next=x/5 ...
registry.list x/ x/1 5 is next=null ...
registry.list x/ x/2 4 is next=null ...

story a page may begin anywhere
alice calls registry.put x/{1..3} 0x00
# between keys, before the prefix, after it, and at what is gone
registry.list x/ x/10 1 is next=x/3 items=[{"key":"x/2","entry":{"owner":"alice","value":"0x00","updated":"2026-01-01T00:00:03Z"}}]
registry.list x/ "" 1 is next=x/2 ...
registry.list x/ a 1 is next=x/2 ...
registry.list x/ y 1 is items=[] next=null
registry.list x/ x/4 1 is items=[] next=null
alice calls registry.remove x/2
registry.list x/ x/2 1 is next=null items=[{"key":"x/3","entry":{"owner":"alice","value":"0x00","updated":"2026-01-01T00:00:04Z"}}]
registry.list y/ null 10 is items=[] next=null

story pages have 1 to 100 entries
view registry.list "" null 0
  refused BadLimit limit=0 most=100
view registry.list "" null 101
  refused BadLimit limit=101 most=100
view registry.list "" null 4294967295
  refused BadLimit limit=4294967295 most=100
alice calls registry.put key-{001..100} 0x00
registry.count is 100
registry.list "" null 100 is next=null ...
registry.list "" null 99 is next=key-100 ...
alice calls registry.put key-101 0x00
registry.list "" null 100 is next=key-101 ...
registry.list key- key-002 100 is next=null ...
registry.list key-10 null 2 is next=null items=[
  {"key":"key-100","entry":{"owner":"alice","value":"0x00","updated":"2026-01-01T00:01:41Z"}},
  {"key":"key-101","entry":{"owner":"alice","value":"0x00","updated":"2026-01-01T00:01:42Z"}}]

story values may be long
alice calls registry.put long (60_000 of 0xab)
registry.get long is {"owner":"alice","value":"(60000 of 0xab)","updated":"2026-01-01T00:00:02Z"}

story a view cannot be given a write
alice views registry.put k 0x01
  ends denied ReadOnly
alice calls registry.put k 0x01
alice views registry.remove k
  ends denied ReadOnly
registry.count is 1

story arguments that do not fit are refused
# a key that is bytes, one that is no UTF-8, a value that is text
alice calls registry.put
  given input 0x82416b4101
  ends aborted bad_arguments
alice calls registry.put
  given input 0x8261ff4101
  ends aborted bad_arguments
alice calls registry.put
  given input 0x82616b616b
  ends aborted bad_arguments
# a limit of 33 bits, and a start that is neither null nor text
# lengths of more than 32 bits: a text, bytes and a list of 2^32 and some
alice calls registry.put
  given input 0x827b000000010000000568656c6c6f40
  ends aborted bad_arguments
alice calls registry.put
  given input 0x82616b5b000000010000000161
  ends aborted bad_arguments
alice calls registry.put
  given input 0x9b0000000100000002616b4161
  ends aborted bad_arguments
view registry.list
  given input 0x8360f61b0000000100000001
  ends aborted bad_arguments
view registry.list
  given input 0x83600101
  ends aborted bad_arguments
registry.count is 0
