# What every multisig does, whatever language it is written in. The token of the same language is what it moves.
accounts ann ben cat outsider voter{01..33}

ann deploys multisig with (list ann ben cat) 2
ann deploys token with Gold XAU multisig
ann deploys registry

story it says who votes
multisig.voters is (list ann ben cat)
multisig.threshold is 2

story enough votes make a call, once
ann calls multisig.propose "more gold" token issue (token.issue ann 100)
  emits Proposed id=1 proposer=ann text="more gold"
  returns 1
multisig.get 1 is proposer=ann text="more gold" target=token method=issue args=(token.issue ann 100) yes=[] no=[] status=open
ann calls multisig.execute 1
  refused NotEnough have=0 need=2
ann calls multisig.vote 1 true
  emits Voted id=1 voter=ann approve=true
cat calls multisig.execute 1
  refused NotEnough have=1 need=2
cat calls multisig.vote 1 true
  emits Voted id=1 voter=cat approve=true
multisig.get 1 is yes=["ann","cat"] no=[] status=open ...
ben calls multisig.execute 1
  emits token.Issued to=ann amount=100
  emits Executed id=1 result=0x
  returns 0x
token.balance_of ann is 100
multisig.get 1 is yes=["ann","cat"] no=[] status=executed ...
ben calls multisig.execute 1
  refused NotOpen id=1 status=executed
token.balance_of ann is 100

story the output of the call is returned
ann calls multisig.propose "" token balance_of (token.balance_of ann)
ann calls multisig.vote 1 true
ben calls multisig.vote 1 true
ben calls multisig.execute 1
  emits Executed id=1 result=(u128 0)
  returns (u128 0)

story a vote is given once, and cannot be changed
ann calls multisig.propose why token issue (token.issue ann 1)
ann calls multisig.vote 1 false
ann calls multisig.vote 1 true
  refused AlreadyVoted id=1 voter=ann
  emits nothing
ben calls multisig.vote 1 true
ben calls multisig.vote 1 true
  refused AlreadyVoted id=1 voter=ben
multisig.get 1 is yes=["ben"] no=["ann"] status=open ...
cat calls multisig.vote 1 true
ann calls multisig.execute 1
multisig.get 1 is yes=["ben","cat"] no=["ann"] status=executed ...

story a motion that cannot win any more is rejected
ann calls multisig.propose why token issue (token.issue ann 1)
ann calls multisig.vote 1 false
  emits Voted id=1 voter=ann approve=false
ben calls multisig.vote 1 false
  emits Voted id=1 voter=ben approve=false
  emits Rejected id=1
multisig.get 1 is no=["ann","ben"] status=rejected ...
cat calls multisig.vote 1 true
  refused NotOpen id=1 status=rejected
# that it is not open is said before anything about votes
ann calls multisig.vote 1 true
  refused NotOpen id=1 status=rejected
ann calls multisig.execute 1
  refused NotOpen id=1 status=rejected

story more votes than needed are taken until it is executed
ann calls multisig.propose why token issue (token.issue ann 1)
ann calls multisig.vote 1 true
ben calls multisig.vote 1 true
cat calls multisig.vote 1 false
multisig.get 1 is yes=["ann","ben"] no=["cat"] status=open ...
cat calls multisig.execute 1
cat calls multisig.vote 1 true
  refused NotOpen id=1 status=executed

story only voters take part
outsider calls multisig.propose why token issue (token.issue ann 1)
  refused NotVoter who=outsider
outsider calls multisig.vote 1 true
  refused NotVoter who=outsider
outsider calls multisig.execute 1
  refused NotVoter who=outsider
ann calls multisig.vote 1 true
  refused NoSuchMotion id=1
ann calls multisig.execute 0
  refused NoSuchMotion id=0
view multisig.get 1
  refused NoSuchMotion id=1
ann calls multisig.propose why token issue (token.issue ann 1)
outsider calls multisig.vote 1 true
  refused NotVoter who=outsider

story ids count from 1
ann calls multisig.propose a token issue 0x80
  returns 1
outsider calls multisig.propose b token issue 0x80
  refused NotVoter who=outsider
ben calls multisig.propose c token issue 0x80
  returns 2
multisig.get 2 is proposer=ben text=c ...

story what the callee refuses is handed on, and the motion stays open
ann calls multisig.propose pay token transfer (token.transfer ben 5)
ann calls multisig.vote 1 true
ben calls multisig.vote 1 true
cat calls multisig.execute 1
  refused CallFailed status=1001 data=(token.InsufficientFunds 0 5)
  emits nothing
multisig.get 1 is status=open ...
# it can be tried again when it can succeed
ann calls multisig.propose issue token issue (token.issue multisig 5)
ann calls multisig.vote 2 true
ben calls multisig.vote 2 true
ben calls multisig.execute 2
cat calls multisig.execute 1
  emits token.Transferred from=multisig to=ben amount=5
  emits Executed id=1 result=0x
token.balance_of ben is 5

story calls that cannot be made
ann calls multisig.propose "no such contract" ann act 0x80
ann calls multisig.propose "no such method" token act 0x80
ann calls multisig.propose "bad arguments" token issue 0x80
ann calls multisig.propose "into itself" multisig vote (multisig.vote 4 false)
ann calls multisig.propose "no method at all" token "" 0x80
ann calls multisig.vote {1..5} true
ben calls multisig.vote {1..5} true
ann calls multisig.execute 1
  refused CallFailed status=-4 data=0x
ann calls multisig.execute 2
  refused CallFailed status=-4 data=0x
ann calls multisig.execute 3
  refused CallFailed status=1 ...
ann calls multisig.execute 4
  refused CallFailed status=-3 data=0x
ann calls multisig.execute 5
  ends denied Call
multisig.get 4 is status=open ...

story a callee that traps leaves the motion open
ann deploys faulty
ann calls multisig.propose why faulty trap 0x80
ann calls multisig.propose why faulty refuse 0x80
ann calls multisig.vote {1..2} true
ben calls multisig.vote {1..2} true
ann calls multisig.execute 1
  refused CallFailed status=-1 data=0x
ann calls multisig.execute 2
  refused CallFailed status=7777 data=0x
multisig.get 1 is status=open ...

story a committee has 1 to 32 voters, no double, and a threshold that it can reach
ann deploys multisig as bad with [] 1
  refused BadCommittee reason=voters
ann deploys multisig as bad with (list voter{01..33}) 1
  refused BadCommittee reason=voters
ann deploys multisig as bad with (33 of ann) 99
  refused BadCommittee reason=voters
ann deploys multisig as bad with (list ann ben ann) 99
  refused BadCommittee reason=double
ann deploys multisig as bad with (list ann ben) 0
  refused BadCommittee reason=threshold
ann deploys multisig as bad with (list ann ben) 3
  refused BadCommittee reason=threshold
ann deploys multisig as alone with (list ann) 1
ann deploys multisig as large with (list voter{01..32}) 32
large.voters is (list voter{01..32})
large.threshold is 32

story one voter who decides alone
ann deploys multisig as alone with (list ann) 1
ann calls alone.propose why registry put (registry.put k "v")
ann calls alone.vote 1 true
ann calls alone.execute 1
  emits registry.Written key=k owner=alone value="v"
  emits Executed id=1 result=0x
ann calls alone.propose why registry remove (registry.remove k)
ann calls alone.vote 2 false
  emits Voted id=2 voter=ann approve=false
  emits Rejected id=2

story all of 32 must agree, and one can prevent it
ann deploys multisig as large with (list voter{01..32}) 32
voter01 calls large.propose why registry put (registry.put k "v")
voter{01..31} calls large.vote 1 true
voter01 calls large.execute 1
  refused NotEnough have=31 need=32
keep last
voter32 calls large.vote 1 true
voter07 calls large.execute 1
back to last
voter32 calls large.vote 1 false
  emits Voted id=1 voter=voter32 approve=false
  emits Rejected id=1

story a contract can be a voter
ann deploys multisig as upper with (list multisig) 1
ann calls multisig.propose why upper propose (upper.propose "from below" registry put (registry.put k "v"))
ann calls multisig.vote 1 true
ben calls multisig.vote 1 true
ann calls multisig.execute 1
  emits upper.Proposed id=1 proposer=multisig text="from below"
  emits Executed id=1 result=(u64 1)
ann calls upper.vote 1 true
  refused NotVoter who=ann

story a view cannot be given a vote
ann views multisig.propose why token issue 0x80
  ends denied ReadOnly
ann calls multisig.propose why token issue 0x80
ann views multisig.vote 1 true
  ends denied ReadOnly

story arguments that do not fit are refused
ann calls multisig.vote
  given input 0x820101
  ends aborted bad_arguments
ann calls multisig.propose
  given input 0x8460530000000000000000000000000000000000000060f6
  ends aborted bad_arguments
